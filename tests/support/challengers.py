"""Challengers made from the shipped weights, as bytes: good ones, damaged ones, and ones with a single fault."""

import functools
import hashlib
import json
from dataclasses import replace

import torch
from safetensors.torch import save

from model.inference import weights
from model.inference.classifier import SHIPPED
from model.network.mlp import MLP
from model.network.weights import deserialize, serialize


@functools.cache
def shipped() -> bytes:
    return SHIPPED.read_bytes()


@functools.cache
def nines_read_less(logit: float) -> bytes:
    """Fine except for nines: each has to overcome this much before it is read as one."""
    network, card = deserialize(shipped())
    network.layers[-1].bias.data[9] -= logit
    return serialize(network, card)


@functools.cache
def wider() -> bytes:
    """The same answers by a network with every hidden unit twice, each of half the weight in what follows."""
    narrow, card = deserialize(shipped())
    network = MLP(tuple(2 * width for width in narrow.hidden), narrow.outputs)
    for i, (twice, once) in enumerate(zip(network.layers, narrow.layers, strict=True)):
        weight = once.weight if i == 0 else torch.cat((once.weight, once.weight), 1) / 2
        last = i == len(narrow.layers) - 1
        twice.weight.data = weight if last else torch.cat((weight, weight))
        twice.bias.data = once.bias if last else torch.cat((once.bias, once.bias))
    return serialize(network, replace(card, hidden=network.hidden))


def truncated() -> bytes:
    return shipped()[: len(shipped()) * 2 // 3]


def one_bit_flipped() -> bytes:
    place = len(shipped()) * 3 // 4
    return shipped()[:place] + bytes([shipped()[place] ^ 1]) + shipped()[place + 1 :]


def with_nan() -> bytes:
    """Whole and sealed, but for one weight that is no number."""
    network, card = deserialize(shipped())
    network.layers[1].weight.data[3, 5] = float("nan")
    return _sealed(network, card)


def wrong_shape() -> bytes:
    """Whole and sealed, but a layer has fewer units than its card says."""
    network, card = deserialize(shipped())
    network.layers[0].bias.data = network.layers[0].bias.data[:-1]
    return _sealed(network, card)


DAMAGED = {
    "truncated": (truncated, "damaged or cut short"),
    "one bit flipped": (one_bit_flipped, "their SHA-256 is not the one in the header"),
    "NaN": (with_nan, "layers.1.weight holds a value that is NaN"),
    "wrong shape": (wrong_shape, "layers.0.bias has shape [1279] instead of [1280]"),
}
"""What is wrong -> how to make it, and what is to be said of it."""


def _sealed(network: MLP, card: weights.ModelCard) -> bytes:
    """A file as `serialize` writes it, without looking at what goes in."""
    text = json.dumps(card.as_dict())
    tensors = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    seal = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        seal.update(tensors[name].numpy().tobytes())
    return save(tensors, {"format": weights.FORMAT, "card": text, "sha256": seal.hexdigest()})
