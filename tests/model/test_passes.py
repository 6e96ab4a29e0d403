"""The passes of a training step, written out: the same as what autograd makes of the network's own forward pass."""

import copy

import pytest
import torch
import torch.nn.functional as F

from model.network import MLP, NormalizedMLP
from model.passes import Passes, in_one_piece


def of_some_kind(kind):
    """A network of that kind whose every parameter counts, digit images and labels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = kind((40, 30), 14)
        for norm in getattr(network, "norms", ()):
            torch.nn.init.uniform_(norm.weight, 0.5, 2)
            torch.nn.init.normal_(norm.bias)
        return network, torch.rand(200, 784), torch.randint(14, (200,))


def by_autograd(network, inputs, labels):
    """The loss; the gradients are in the network."""
    loss = F.cross_entropy(network.train()(inputs), labels)
    loss.backward()
    return loss.detach()


@torch.no_grad()
def by_hand(network, inputs, labels, dtype):
    whole = in_one_piece(network)
    passes = Passes(network, whole, dtype)
    logits = passes.forward(inputs.t().to(dtype)).float()
    with torch.enable_grad():
        loss = F.cross_entropy(logits.requires_grad_().t(), labels)
        change = torch.autograd.grad(loss, logits)
    passes.backward(*change)
    return loss.detach()


@pytest.mark.parametrize("kind", [MLP, NormalizedMLP])
def test_gradients_are_autograds(kind):
    network, inputs, labels = of_some_kind(kind)
    ours = copy.deepcopy(network)
    assert torch.allclose(by_autograd(network, inputs, labels), by_hand(ours, inputs, labels, torch.float32))
    for (name, theirs), mine in zip(network.named_parameters(), ours.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6), name
    for (name, theirs), mine in zip(network.named_buffers(), ours.buffers(), strict=True):
        assert torch.allclose(mine.float(), theirs.float()), name


@pytest.mark.parametrize("kind", [MLP, NormalizedMLP])
def test_half_the_bits_point_the_same_way(kind):
    network, inputs, labels = of_some_kind(kind)
    ours = copy.deepcopy(network)
    loss, half = by_autograd(network, inputs, labels), by_hand(ours, inputs, labels, torch.bfloat16)
    assert float(half) == pytest.approx(float(loss), rel=0.01)
    theirs, mine = (torch.cat([p.grad.flatten() for p in each.parameters()]) for each in (network, ours))
    assert F.cosine_similarity(theirs, mine, dim=0) > 0.99


def test_a_network_in_one_piece_is_the_same_network():
    network, inputs, _ = of_some_kind(NormalizedMLP)
    before = copy.deepcopy(network.state_dict())
    whole = in_one_piece(network)
    assert whole.shape == whole.grad.shape == (sum(value.numel() for value in network.parameters()),)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    whole.zero_()
    assert not any(value.any() for value in network.parameters())
    network.layers[0].bias.grad.fill_(1)
    assert whole.grad.sum() == 40
    assert not network.eval()(inputs).any()
