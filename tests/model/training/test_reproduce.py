"""Versions made again from their cards, to the same bytes."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model import provenance
from model.data.corrections import Corrections
from model.inference import weights
from model.inference.classifier import SHIPPED
from model.network.predict import digit_probabilities
from model.network.weights import deserialize, serialize
from model.presets import PRESETS, Config
from model.task import SPLIT
from model.training.package import build_package
from model.training.reproduce import ReproductionError, differences, reproduce
from model.training.train import train


@pytest.fixture(scope="module")
def few(mnist):
    return mnist.subset(400)


@pytest.fixture
def corrections():
    images = np.random.default_rng(1).integers(0, 256, (6, 28, 28), np.uint8)
    return Corrections(images, np.arange(6), np.arange(6) > 3, np.arange(6))


@pytest.fixture(autouse=True, scope="module")
def tiny():
    small = replace(PRESETS["standard"], name="tiny", hidden=(24,), batch_size=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", small)
        patch.setitem(PRESETS, "fine-tune", replace(PRESETS["fine-tune"], batch_size=50))
        yield


@pytest.fixture(scope="module")
def version(tiny, few):
    """Made some years ago, by other code that made the same network."""
    with pytest.MonkeyPatch.context() as past:
        past.setattr(provenance, "digest", lambda: "an older one")
        then = SimpleNamespace(now=lambda zone: datetime(2020, 1, 2, tzinfo=zone))
        past.setattr("model.training.package.datetime", then)
        return made("tiny", few)


def made(preset, data, parent=None, corrections=None):
    config = Config(preset, 2, 7)
    start = deserialize(parent)[0] if parent else None
    result = train(config, data, start=start, corrections=corrections)
    return build_package(config, result, data, parent, corrections).data


def test_accuracy_of_a_version_is_that_of_the_weights_stored(few):
    network, card = deserialize(made("tiny", few))
    probabilities = digit_probabilities(network, few.validation.images)
    assert card.validation_accuracy == (probabilities.argmax(1) == few.validation.labels.numpy()).mean()


def test_version_of_another_division_is_refused(few):
    """An earlier release trained it on digits that now judge versions: no training of this one gives it again."""
    network, card = deserialize(build_package(Config("tiny", 1), train(Config("tiny", 1), few), few).data)
    with pytest.raises(ReproductionError, match="another division"):
        reproduce(serialize(network, replace(card, split=None)), few)


@pytest.mark.parametrize("unseen", [True, False])
def test_gate_stays_unseen_only_if_the_parent_has_not_seen_it(few, unseen):
    network, card = deserialize(build_package(Config("tiny", 1), train(Config("tiny", 1), few), few).data)
    parent = serialize(network, replace(card, gate_unseen=unseen))
    result = train(Config("fine-tune", 1), few, start=network)
    assert build_package(Config("fine-tune", 1), result, few, parent).card.gate_unseen is unseen


def test_version_made_again_is_the_same_with_as_many_threads_as_then(version, few, monkeypatch):
    card = weights.read_card(version)
    assert card.created.startswith("2020-01-02") and differences(card) == ["the code is another one"]
    assert card.threads == 1
    used = []

    def counted(*arguments, **named):
        used.append(torch.get_num_threads())
        return train(*arguments, **named)

    monkeypatch.setattr("model.training.reproduce.train", counted)
    torch.set_num_threads(2)
    try:
        found = reproduce(version, few)
        assert used == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert found.same and found.made == weights.digest(version)


def test_version_fine_tuned_is_the_same_from_its_parent_and_corrections(version, few, corrections):
    data = made("fine-tune", few, version, corrections)
    card = weights.read_card(data)
    assert card.parent == weights.digest(version)
    assert card.corrections == {"learnt": 4, "held_out": 2, "sha256": corrections.digest()}
    order = np.array([5, 3, 1, 0, 2, 4])
    assert reproduce(data, few, version, corrections.part(order)).same  # the card names a set
    for parent, given, told in (
        (version, corrections.part(order[:5]), "6 corrections are no longer what they were; 5 are there"),
        (version, None, "6 corrections are no longer what they were; 0 are there"),
        (SHIPPED.read_bytes(), corrections, "fine-tuned from"),
        (None, corrections, "fine-tuned from"),
    ):
        with pytest.raises(ReproductionError, match=told):
            reproduce(data, few, parent, given)


def test_version_of_a_presets_former_name_is_the_same(few):
    arrays, card = weights.unpack(made("basic", few))
    former = replace(card, preset="seed", command=card.command.replace("basic", "seed"))
    assert former.command == "python -m model train --preset seed --epochs 2 --seed 7"
    assert reproduce(weights.pack(arrays, former), few).same


def test_version_from_before_the_settings_is_the_same(few):
    """Its card has none: they are the preset's, and the version made again has none either."""
    arrays, card = weights.unpack(made("basic", few))
    assert reproduce(weights.pack(arrays, replace(card, settings=None)), few).same


def test_version_of_all_digits_is_the_same_and_has_seen_the_gate(few):
    data = made("original", few)
    assert reproduce(data, few).same
    network, card = deserialize(data)
    with pytest.raises(ReproductionError, match="another division"):
        reproduce(serialize(network, replace(card, split=SPLIT)), few)
    tuned = build_package(Config("fine-tune", 1), train(Config("fine-tune", 1), few, start=network), few, data).card
    assert (card.gate_unseen, tuned.gate_unseen, tuned.split) == (False, False, SPLIT)


@pytest.mark.parametrize("changed", ["data", "code"])
def test_version_of_other_data_or_code_is_another(version, few, mnist, monkeypatch, changed):
    if changed == "code":
        monkeypatch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], label_smoothing=0.1))
    assert not reproduce(version, mnist.subset(300) if changed == "data" else few).same


def test_version_damaged_is_not_made_again(version, few):
    data = bytearray(version)
    data[-100] ^= 1
    with pytest.raises(weights.WeightsError, match="damaged"):
        reproduce(bytes(data), few)


def test_version_of_other_libraries_is_told(version):
    card = weights.read_card(version)
    found = differences(replace(card, libraries=card.libraries | {"torch": "1.0"}))
    assert len(found) == 2 and "the code is another one" in found and "was 1.0" in found[1]


def test_version_of_an_unknown_preset_is_refused(version, few, monkeypatch):
    monkeypatch.delitem(PRESETS, "tiny")
    with pytest.raises(ReproductionError, match="no preset 'tiny'"):
        reproduce(version, few)


def test_code_digest_is_that_of_its_texts(tmp_path, monkeypatch):
    provenance.digest.cache_clear()
    here = provenance.digest()
    (tmp_path / "data").mkdir()
    for name in ("provenance.py", "data/mnist.py"):
        (tmp_path / name).write_bytes((Path(provenance.__file__).parent / name).read_bytes())
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    provenance.digest.cache_clear()
    copied = provenance.digest()
    (tmp_path / "data" / "mnist.py").write_text("# other")
    provenance.digest.cache_clear()
    assert len({here, copied, provenance.digest()}) == 3
    provenance.digest.cache_clear()
