"""Checkpoints: the state of a training after an epoch, as bytes to resume from. Reading them runs no code."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from typing import Any

import torch

log = logging.getLogger(__name__)


def pack(training: str, state: dict[str, Any]) -> bytes:
    """Serialize `state` (tensors, numbers, texts, lists and dicts of them) of the training named `training`."""
    file = io.BytesIO()
    torch.save({"training": training, "state": state}, file)
    data = file.getvalue()
    return hashlib.sha256(data).digest() + data


def unpack(data: bytes, training: str) -> dict[str, Any] | None:
    """Return the state, or None where the bytes are damaged or belong to another training."""
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        log.warning("the checkpoint is damaged")
        return None
    try:
        found = torch.load(io.BytesIO(data[32:]), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        log.warning("the checkpoint is none")
        return None
    if found["training"] != training:
        log.warning("the checkpoint is that of another training")
        return None
    return found["state"]
