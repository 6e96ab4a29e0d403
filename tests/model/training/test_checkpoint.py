"""Bytes to go on from: whole or nothing, and only for the training that they are of."""

import hashlib
import io
import pickle

import pytest
import torch

from model.training.checkpoint import pack, unpack

STATE = {"epoch": 3, "network": {"weight": torch.arange(6.0).view(2, 3)}, "history": [{"loss": None}]}


def test_checkpoint_packed_comes_back():
    found = unpack(pack("this one", STATE), "this one")
    assert found["epoch"] == 3 and found["history"] == [{"loss": None}]
    assert torch.equal(found["network"]["weight"], STATE["network"]["weight"])


def test_checkpoint_of_another_training_is_none():
    assert unpack(pack("this one", STATE), "that one") is None


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:200], lambda d: b"", lambda d: d + b"!"])
def test_checkpoint_cut_short_is_none(damage):
    assert unpack(damage(pack("this one", STATE)), "this one") is None


def test_checkpoint_with_a_flipped_bit_is_none():
    data = pack("this one", STATE)
    for place in range(0, len(data), 97):
        flipped = data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
        assert unpack(flipped, "this one") is None


class Trap:
    """Makes a file as soon as it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


@pytest.mark.parametrize("make", [lambda trap: pickle.dumps(trap, 2), lambda trap: saved({"state": trap})])
def test_checkpoint_with_code_is_not_run(tmp_path, make):
    data = make(Trap(tmp_path / "canary"))
    assert unpack(hashlib.sha256(data).digest() + data, "this one") is None
    assert not (tmp_path / "canary").exists()


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()
