"""Versions made again from their cards, to the same bytes."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model import code, mnist, weights
from model.corrections import Corrections
from model.presets import PRESETS, Config
from model.recognizer import SHIPPED
from model.replay import ReplayError, differences, replay
from model.seal import seal
from model.train import train


@pytest.fixture(scope="module")
def few(mnist):
    return mnist.subset(400)


@pytest.fixture
def corrections():
    images = np.random.default_rng(1).integers(0, 256, (6, 28, 28), np.uint8)
    return Corrections(images, np.arange(6), np.arange(6) > 3, np.arange(6))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    small = replace(PRESETS["standard"], name="tiny", hidden=(24,), batch_size=50)
    monkeypatch.setitem(PRESETS, "tiny", small)
    monkeypatch.setitem(PRESETS, "fine-tune", replace(PRESETS["fine-tune"], batch_size=50))


def made(preset, data, parent=None, corrections=None):
    config = Config(preset, 2, 7)
    start = weights.from_bytes(parent)[0] if parent else None
    result = train(config, data, start=start, corrections=corrections)
    return seal(config, result, data, parent, corrections).data


def test_a_version_comes_out_the_same(few, monkeypatch):
    """Whenever it was made, and by whichever code, if that made the same network."""
    with monkeypatch.context() as past:
        past.setattr(code, "digest", lambda: "an older one")
        past.setattr("model.seal.datetime", SimpleNamespace(now=lambda zone: datetime(2020, 1, 2, tzinfo=zone)))
        data = made("tiny", few)
    card = weights.read_card(data)
    assert card.created.startswith("2020-01-02") and differences(card) == ["the code is another one"]
    found = replay(data, few)
    assert found.same and found.made == weights.digest(data)


def test_a_fine_tuned_version_comes_out_the_same_from_its_parent_and_corrections(few, corrections):
    parent = made("tiny", few)
    data = made("fine-tune", few, parent, corrections)
    card = weights.read_card(data)
    assert card.parent == weights.digest(parent)
    assert card.corrections == {"learnt": 4, "held_out": 2, "sha256": corrections.digest()}
    assert replay(data, few, parent, corrections).same
    order = np.array([5, 3, 1, 0, 2, 4])
    assert replay(data, few, parent, corrections.part(order)).same  # the card names a set
    with pytest.raises(ReplayError):
        replay(data, few, parent, corrections.part(order[:5]))
    with pytest.raises(ReplayError, match="6 corrections are no longer what they were; 0 are there"):
        replay(data, few, parent)
    with pytest.raises(ReplayError, match="fine-tuned from"):
        replay(data, few, SHIPPED.read_bytes(), corrections)
    with pytest.raises(ReplayError, match="fine-tuned from"):
        replay(data, few, None, corrections)


def test_other_data_make_other_bytes_and_are_told(few, mnist):
    found = replay(made("tiny", few), mnist.subset(300))
    assert not found.same


def test_it_multiplies_with_as_many_threads_as_then(few, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = made("tiny", few)
    finally:
        torch.set_num_threads(before)
    assert weights.read_card(data).threads == 1
    used = []
    monkeypatch.setattr("model.replay.train", lambda *a, **k: used.append(torch.get_num_threads()) or train(*a, **k))
    assert replay(data, few).same
    assert used == [1] and torch.get_num_threads() == before


def test_damaged_weights_are_not_made_again(few):
    data = bytearray(made("tiny", few))
    data[-100] ^= 1
    with pytest.raises(weights.WeightsError, match="damaged"):
        replay(bytes(data), few)


def test_what_is_no_longer_as_it_was_is_told(few, monkeypatch):
    card = weights.read_card(made("tiny", few))
    assert differences(card) == []
    monkeypatch.setattr(code, "digest", lambda: "another")
    old = replace(card, libraries=card.libraries | {"torch": "1.0"})
    assert len(differences(old)) == 2
    assert "the code is another one" in differences(old) and "was 1.0" in differences(old)[1]


def test_whether_other_code_matters_is_seen_by_what_it_makes(few, monkeypatch):
    data = made("tiny", few)
    monkeypatch.setattr(code, "digest", lambda: "another")
    assert replay(data, few).same
    monkeypatch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], label_smoothing=0.1))
    assert not replay(data, few).same


def test_a_preset_that_is_no_more_cannot_be_trained(few, monkeypatch):
    data = made("tiny", few)
    monkeypatch.delitem(PRESETS, "tiny")
    with pytest.raises(ReplayError, match="no preset 'tiny'"):
        replay(data, few)


def test_the_digest_of_the_code_is_that_of_its_texts(tmp_path, monkeypatch):
    code.digest.cache_clear()
    here = code.digest()
    for path in map(Path, (mnist.__file__, code.__file__)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(code, "__file__", str(tmp_path / "code.py"))
    code.digest.cache_clear()
    copied = code.digest()
    (tmp_path / "mnist.py").write_text("# other")
    code.digest.cache_clear()
    assert len({here, copied, code.digest()}) == 3
    code.digest.cache_clear()
