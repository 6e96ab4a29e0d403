"""The forward pass that serves, against the network that was trained."""

import numpy as np
import pytest
import torch

from model.inference import mlp as served_by
from model.inference import weights
from model.inference.classifier import SHIPPED
from model.inference.mlp import NumpyMLP
from model.network.mlp import MLP, to_tensor
from model.network.weights import load_network


def served(network):
    return NumpyMLP([(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in network.layers])


def trained(network, images):
    with torch.inference_mode():
        return network(to_tensor(images)).numpy()


def inked(share, count=20):
    random = np.random.default_rng(4)
    pixels = random.integers(0, 256, (count, 28, 28)) * (random.random((count, 28, 28)) < share)
    return pixels.astype(np.uint8)


@pytest.mark.parametrize("hidden", [(30,), (40, 20), (64, 128, 65)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 1.0])
def test_forward_agrees_with_the_network(hidden, share, monkeypatch):
    monkeypatch.setattr(served_by, "PORTION", 64 * 64)  # one portion or several, just full or not
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = MLP(hidden, 14).eval()
    images, fast = inked(share), served(network)
    expected = trained(network, images)
    assert np.allclose(fast.forward_batch(images), expected, atol=1e-5)
    alone = np.stack([fast.forward_one(image) for image in images])
    assert alone.dtype == np.float32 and np.allclose(alone, expected, atol=1e-5)


def test_forward_of_the_shipped_network_reads_alike(mnist):
    images = mnist.test.images[:300].numpy()
    network, card = load_network(SHIPPED)
    layers, card_again = weights.layers(SHIPPED.read_bytes())
    fast, expected = NumpyMLP(layers), trained(network, images)
    assert card_again == card
    assert np.allclose(fast.forward_batch(images), expected, atol=2e-4)
    assert np.allclose([fast.forward_one(image) for image in images], expected, atol=2e-4)


def test_forward_leaves_the_pictures():
    images = inked(0.3, 2)
    before = images.copy()
    network = served(MLP((8,)))
    network.forward_batch(images)
    network.forward_one(images[0])
    assert np.array_equal(images, before)
