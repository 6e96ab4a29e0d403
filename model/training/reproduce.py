"""Reproduce a version from its card, to equal bytes on the same machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from model import provenance
from model.data.corrections import Corrections
from model.data.splits import Mnist
from model.inference import weights
from model.inference.weights import ModelCard
from model.network.weights import deserialize
from model.presets import PRESETS, Config
from model.training.distributed import process_group
from model.training.package import build_package
from model.training.train import train


class ReproductionError(ValueError):
    """The version cannot be reproduced; the message names the input that is missing or has changed."""


@dataclass(frozen=True)
class Reproduction:
    """SHA-256, in hex, of the version and of its reproduction."""

    expected: str
    made: str

    @property
    def same(self) -> bool:
        return self.expected == self.made


def differences(card: ModelCard) -> list[str]:
    """Return, in words, differences of code and libraries from the card: each may change the last bit of the result."""
    found = []
    if card.code_sha256 != provenance.digest():
        found.append("the code is another one")
    for name, version in provenance.libraries().items():
        if card.libraries.get(name) != version:
            found.append(f"{name} is {version}, and was {card.libraries.get(name, 'not named')}")
    return found


def reproduce(
    data: bytes,
    mnist: Mnist,
    parent: bytes | None = None,
    corrections: Corrections | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
    command: Sequence[str] = (),
) -> Reproduction | None:
    """Train the version with bytes `data` again, with the card's numbers of processes and threads.

    `parent` are the bytes that it was fine-tuned from, `corrections` those that it was trained on and compared by.
    Other processes are started by `command`, which must call this function too; it returns None in them. `differences`
    are not checked: other code may make an equal network. Raises WeightsError where bytes are damaged,
    ReproductionError where inputs are not those of the card, and GroupLost where a process is lost.
    """
    card = deserialize(data)[1]
    try:
        config = Config(card.preset, card.epochs, card.seed, card.processes, **_own_settings(card))
    except ValueError as error:
        raise ReproductionError(str(error)) from error
    _check(card, config, parent, corrections)
    with process_group(config.processes, command) as group, _threads(card.threads):
        start = deserialize(parent)[0] if parent else None
        result = train(
            config,
            mnist,
            lambda progress: on_progress(progress.fraction),
            start=start,
            corrections=corrections,
            group=group,
        )
        if group.rank > 0:
            return None
        package = build_package(config, result, mnist, parent, corrections, card)
    return Reproduction(weights.digest(data), weights.digest(package.data))


def _own_settings(card: ModelCard) -> dict[str, Any]:
    """Return the settings that a configuration takes; cards of earlier releases have none, and mean the preset's."""
    return {name: card.settings[name] for name in ("batch_size", "learning_rate", "schedule")} if card.settings else {}


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(card: ModelCard, config: Config, parent: bytes | None, corrections: Corrections | None) -> None:
    if card.split != PRESETS[config.preset].split:
        raise ReproductionError("an earlier release made it from another division of MNIST's digits; use that release")
    if card.parent != (weights.digest(parent) if parent else None):
        raise ReproductionError(
            f"it was fine-tuned from the weights {(card.parent or 'none')[:12]}, and these are others"
        )
    if PRESETS[config.preset].fine_tunes and parent is None:
        raise ReproductionError("the weights that it was fine-tuned from are needed")
    named = card.corrections["sha256"] if card.corrections else None
    if named != (corrections.digest() if corrections else None):
        count = card.corrections["learnt"] + card.corrections["held_out"] if card.corrections else 0
        there = len(corrections) if corrections else 0
        raise ReproductionError(f"its {count} corrections are no longer what they were; {there} are there")
