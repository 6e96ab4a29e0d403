import errno
import hashlib
import json
import os
import pickle
import random
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save as save_tensors

from model.inference import weights
from model.inference.classifier import SHIPPED
from model.inference.decision import UNCALIBRATED, Calibration
from model.inference.weights import ModelCard, WeightsError
from model.network.mlp import MLP
from model.network.weights import deserialize, load_network, save_network, serialize

CALIBRATION = Calibration(coverage=0.95, refuse_above=0.4, hesitant_mass=0.9, confident_mass=0.1)


@pytest.fixture
def data(network, card):
    return serialize(network, card)


def parts(data):
    """The header as a dictionary, and the tensors' bytes."""
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), data[start:]


def joined(header, body):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def sealed(tensors, card_text, **metadata):
    """A file that is whole and sealed, whatever it holds: only its content can be wrong."""
    seal = hashlib.sha256(card_text.encode())
    for name in sorted(tensors):
        seal.update(tensors[name].numpy().tobytes())
    return save_tensors(tensors, {"format": weights.FORMAT, "card": card_text, "sha256": seal.hexdigest()} | metadata)


def halves(network):
    return {name: tensor.half() for name, tensor in network.state_dict().items()}


def text_of(card, **changes):
    return json.dumps(card.as_dict() | changes)


def refused(data):
    with pytest.raises(WeightsError) as caught:
        deserialize(data)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


# There and back


def test_weights_come_back_in_half_precision(network, card, data):
    found, found_card = deserialize(data)
    assert found_card == card
    assert not found.training
    for name, tensor in found.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, network.state_dict()[name].half().float())


def test_weights_loaded_read_alike_and_train_on(network, data):
    found, _ = deserialize(data)
    x = torch.rand(8, 784)
    logits = found(x)
    assert torch.allclose(logits, network(x), atol=1e-3)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in found.parameters())


def test_weights_of_the_same_network_are_the_same_bytes(network, card, data):
    """safetensors writes the header's metadata in a random order; a digest would then mean nothing."""
    for _ in range(8):
        assert serialize(network, card) == data
    assert weights.digest(data) == hashlib.sha256(data).hexdigest()


def test_weights_are_plain_safetensors(tmp_path, network, card):
    from safetensors import safe_open

    save_network(tmp_path / "w.safetensors", network, card)
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata()["format"] == "inkling-mlp-1"
        assert json.loads(file.metadata()["card"])["command"] == card.command
        assert file.get_tensor("layers.0.weight").dtype == torch.float16


def test_weights_loading_leaves_the_random_state(data):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    deserialize(data)
    assert torch.equal(torch.rand(4), expected)


def test_card_of_a_later_version_is_read(network, card):
    later = sealed(halves(network), text_of(card, temperature=1.3))
    assert deserialize(later)[1] == card


def test_card_from_before_the_verdicts_is_read(network, card):
    old = card.as_dict()
    del old["outputs"], old["calibration"]
    found, found_card = deserialize(sealed(halves(network), json.dumps(old)))
    assert (found_card.outputs, found_card.calibration) == (10, UNCALIBRATED)
    assert found_card == card and found(torch.rand(1, 784)).shape == (1, 10)


def test_card_shipped_promises_the_coverage_of_the_page():
    assert weights.read_card(SHIPPED.read_bytes()).calibration.coverage == Calibration.coverage


def test_weights_that_refuse_keep_their_thresholds(card):
    network, card = MLP((16, 12), 14), replace(card, outputs=14, calibration=CALIBRATION)
    data = serialize(network, card)
    found, found_card = deserialize(data)
    assert found_card == card == weights.read_card(data)
    assert found.outputs == 14 and found(torch.rand(2, 784)).shape == (2, 14)


@pytest.mark.parametrize(("made", "promised"), [(10, 14), (14, 10)])
def test_weights_with_other_outputs_than_the_card_are_refused(card, made, promised):
    network = MLP((16, 12), made)
    told = f"layers.2.weight has shape [{made}, 12] instead of [{promised}, 12]"
    assert told in refused(sealed(halves(network), text_of(card, outputs=promised)))
    with pytest.raises(WeightsError, match="do not fit"):
        serialize(network, replace(card, outputs=promised))


# Damage


def test_weights_cut_short_are_refused(data):
    start = len(data) - len(parts(data)[1])
    lengths = [*range(start + 40), *random.Random(1).sample(range(start, len(data)), 60), len(data) - 1]
    for length in lengths:
        refused(data[:length])
    refused(data + b"\0")


def test_weights_with_a_flipped_bit_are_refused(data):
    """Every bit of the header, and bits all over the weights."""
    start = len(data) - len(parts(data)[1])
    places = [*range(start), *random.Random(2).sample(range(start, len(data)), 200)]
    for place in places:
        for bit in range(8) if place < start else (random.Random(place).randrange(8),):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            refused(bytes(damaged))


# Whole files that are not ours


class Trap:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (open, (str(self.canary), "w"))


def test_weights_that_are_a_pickle_are_not_run(tmp_path):
    canary = tmp_path / "canary"
    trap = pickle.dumps(Trap(canary))
    archive = tmp_path / "model.pt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", trap)
    disguised = len(trap).to_bytes(8, "little") + trap
    for data in (trap, disguised, archive.read_bytes()):
        assert "not a safetensors file" in refused(data)
    assert not canary.exists()
    pickle.loads(trap).close()
    assert canary.exists()  # the trap does work


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("layers.1.bias"), "layers.1.bias is missing"),
        (lambda t: t.update({"norm.weight": torch.zeros(3).half()}), "norm.weight is unexpected"),
        (lambda t: t.update({"layers.0.bias": torch.zeros(17).half()}), "shape [17] instead of [16]"),
        (lambda t: t.update({"layers.0.weight": torch.zeros(784, 16).half()}), "instead of [16, 784]"),
        (lambda t: t.update({"layers.0.weight": torch.zeros(16 * 784).half()}), "instead of [16, 784]"),
        (lambda t: t.update({"layers.0.bias": torch.zeros(16)}), "not stored in half precision"),
        (lambda t: t.update({"layers.0.bias": torch.zeros(16, dtype=torch.int16)}), "half precision"),
        (lambda t: t.clear(), "layers.0.weight is missing"),
        (lambda t: t["layers.1.bias"].fill_(float("nan")), "layers.1.bias holds a value that is NaN"),
        (lambda t: t["layers.2.weight"][3, 4].fill_(float("inf")), "layers.2.weight holds"),
        (lambda t: t["layers.0.weight"][0, 0].fill_(-float("inf")), "layers.0.weight holds"),
    ],
)
def test_weights_that_do_not_fit_are_refused(network, card, change, told):
    tensors = halves(network)
    change(tensors)
    assert told in refused(sealed(tensors, text_of(card)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "preset is missing"),
        ("[" * 100_000, "not JSON"),
        ({"hidden": []}, "hidden cannot be"),
        ({"hidden": "16"}, "hidden cannot be"),
        ({"hidden": [16, -12]}, "hidden cannot be"),
        ({"hidden": [True, 12]}, "hidden cannot be"),
        ({"hidden": [10**15, 10**15]}, "do not fit"),
        ({"hidden": [16]}, "do not fit"),
        ({"hidden": [16, 12, 12]}, "layers.3.weight is missing"),
        ({"epochs": -1}, "epochs cannot be"),
        ({"validation_accuracy": 97.1}, "validation_accuracy cannot be"),
        ({"validation_accuracy": float("nan")}, "validation_accuracy cannot be"),
        ({"test_accuracy": "good"}, "test_accuracy cannot be"),
        ({"libraries": {"torch": 2}}, "libraries cannot be"),
        ({"outputs": 11}, "outputs cannot be"),
        ({"outputs": True}, "outputs cannot be"),
        ({"outputs": None}, "outputs cannot be"),
        ({"calibration": None}, "calibration cannot be"),
        ({"calibration": [0.98, 1.0, 0.0, 0.0]}, "calibration cannot be"),
        ({"calibration": {"coverage": 0.98}}, "calibration cannot be"),
        ({"calibration": vars(CALIBRATION) | {"temperature": 1.0}}, "calibration cannot be"),
        ({"calibration": vars(CALIBRATION) | {"coverage": 98}}, "calibration cannot be"),
        ({"calibration": vars(CALIBRATION) | {"refuse_above": float("nan")}}, "calibration cannot be"),
        ({"calibration": vars(CALIBRATION) | {"hesitant_mass": True}}, "calibration cannot be"),
        ({"calibration": vars(CALIBRATION) | {"confident_mass": "0.5"}}, "calibration cannot be"),
        ({"preset": None}, "preset cannot be"),
        ({"preset": "x" * 5_000, "seed": -1}, "seed cannot be"),
    ],
)
def test_card_unreadable_is_refused(network, card, text, told):
    text = text if isinstance(text, str) else text_of(card, **text)
    message = refused(sealed(halves(network), text))
    assert told in message and len(message) < 600


def test_weights_of_foreign_safetensors_are_refused(network, card):
    assert "not Inkling's" in refused(save_tensors(halves(network)))
    assert "not Inkling's" in refused(sealed(halves(network), text_of(card), format="inkling-mlp-9"))
    assert "no model card" in refused(save_tensors(halves(network), {"format": weights.FORMAT}))


def test_card_changed_breaks_the_seal(network, card, data):
    header, body = parts(data)
    header["__metadata__"]["card"] = text_of(card, validation_accuracy=0.9999)
    assert "SHA-256" in refused(joined(header, body))
    header, body = parts(data)
    del header["__metadata__"]["sha256"]
    assert "SHA-256" in refused(joined(header, body))


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["layers.0.bias"].update(data_offsets=[0, 10**12]),
        lambda header: header["layers.0.bias"].update(data_offsets=[-1, 31]),
        lambda header: header["layers.0.bias"].update(data_offsets=header["layers.1.bias"]["data_offsets"]),
        lambda header: header["layers.0.bias"].pop("data_offsets"),
        lambda header: header["layers.0.bias"].pop("shape"),
        lambda header: header["layers.0.bias"].update(shape=[16.0]),
        lambda header: header.update({"layers.0.bias": 5}),
        lambda header: header.update(__metadata__=5),
        lambda header: header["__metadata__"].update(card=5),
        lambda header: header["__metadata__"].update(more={}),
    ],
)
def test_weights_with_a_lying_header_are_refused(data, change):
    header, body = parts(data)
    change(header)
    refused(joined(header, body))


def test_weights_with_swapped_names_are_found(data):
    """Two tensors of one shape could stand in for each other; the seal runs over the names in order."""
    network = MLP((16, 16, 16))
    card = ModelCard("basic", (16, 16, 16), 1, 0, "", "", "", {}, 0.5, None)
    header, body = parts(serialize(network, card))
    one, two = "layers.1.weight", "layers.2.weight"
    header[one], header[two] = header[two], header[one]
    assert "SHA-256" in refused(joined(header, body))


@pytest.mark.parametrize("data", [b"", b"\0", b"{}", bytes(8), bytes(64), b"\x02" + bytes(7) + b"{}"])
def test_weights_of_nearly_nothing_are_refused(data):
    refused(data)


# What is written


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_beyond_half_precision_are_not_written(tmp_path, network, card, value):
    with torch.no_grad():
        network.layers[1].weight[2, 3] = value
    with pytest.raises(WeightsError, match="layers.1.weight"):
        save_network(tmp_path / "w.safetensors", network, card)
    assert list(tmp_path.iterdir()) == []


def test_weights_with_another_networks_card_are_not_written(network, card):
    with pytest.raises(WeightsError, match="do not fit"):
        serialize(network, replace(card, hidden=(16, 16)))


def test_weights_saved_replace_the_old_file_in_one_step(tmp_path, network, card, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_network(path, network, card)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", full)
        save_network(path, network, replace(card, seed=8))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]

    save_network(path, network, replace(card, seed=8))
    assert load_network(path)[1].seed == 8 and list(tmp_path.iterdir()) == [path]


def test_weights_loaded_wrongly_name_the_file(tmp_path, data):
    (tmp_path / "short").write_bytes(data[:-1])
    for name in ("absent", "short", "."):
        with pytest.raises(WeightsError) as caught:
            load_network(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
