"""The network: shapes and names of every preset, and folding against the network that was trained."""

from dataclasses import replace

import pytest
import torch

from model.network.mlp import MLP, BatchNormMLP, build_network, fuse_batch_norm
from model.presets import PRESETS


@pytest.fixture(autouse=True)
def own_chance():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if not preset.fine_tunes])
def test_presets_make_networks(name):
    preset = PRESETS[name]
    assert preset.name == name
    network = build_network(preset).eval()
    assert network.hidden == preset.hidden
    assert network(torch.rand(5, 784)).shape == (5, 14 if preset.drawn else 10)
    assert hasattr(network, "norms") == preset.batch_norm


def test_preset_basic_is_the_original_script():
    basic = PRESETS["basic"]
    assert basic.hidden == (64, 64, 64)
    assert not (basic.deformed or basic.drawn or basic.averaged or basic.batch_norm or basic.label_smoothing)


def test_network_state_is_named_by_layer():
    shapes = {name: tuple(value.shape) for name, value in MLP((30, 20)).state_dict().items()}
    assert shapes == {
        "layers.0.weight": (30, 784),
        "layers.0.bias": (30,),
        "layers.1.weight": (20, 30),
        "layers.1.bias": (20,),
        "layers.2.weight": (10, 20),
        "layers.2.bias": (10,),
    }


def test_network_forward_is_the_sums_written_out():
    network, x = MLP((6, 5)), torch.rand(3, 784)
    first, second, last = ((layer.weight, layer.bias) for layer in network.layers)
    y = (x @ first[0].T + first[1]).clamp(min=0)
    y = (y @ second[0].T + second[1]).clamp(min=0)
    assert torch.allclose(network(x), y @ last[0].T + last[1], atol=1e-5)


@pytest.mark.parametrize("hidden", [(), (0,), (64, 0), (-5,), (64, -1, 3)])
def test_network_of_impossible_sizes_is_refused(hidden):
    with pytest.raises(ValueError, match="hidden layers"):
        MLP(hidden)
    with pytest.raises(ValueError, match="hidden layers"):
        build_network(replace(PRESETS["standard"], hidden=hidden))


@pytest.mark.parametrize("hidden", [(7,), (30, 20), (64, 64, 64)])
def test_fold_gives_what_the_normalised_network_gives(hidden):
    network = BatchNormMLP(hidden)
    for norm in network.norms:  # as training would leave them: nothing at its start
        torch.nn.init.uniform_(norm.weight, -1, 2)
        torch.nn.init.normal_(norm.bias)
    for _ in range(20):
        network.train()(torch.rand(64, 784))
    network.eval()
    plain, x = fuse_batch_norm(network), torch.rand(100, 784)
    assert type(plain) is MLP and not plain.training
    assert torch.allclose(plain(x), network(x), atol=1e-4)


def test_fold_copies_a_plain_network():
    network = MLP((9,))
    plain, x = fuse_batch_norm(network), torch.rand(4, 784)
    assert torch.equal(plain(x), network(x))
    with torch.no_grad():
        network.layers[0].weight.zero_()
    assert plain.layers[0].weight.abs().sum() > 0


def test_fold_leaves_the_trained_network_as_it_was():
    network = BatchNormMLP((8,)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fuse_batch_norm(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("outputs", [0, 9, 11, 15])
def test_network_with_other_outputs_is_refused(outputs):
    with pytest.raises(ValueError, match="10 or 14 outputs"):
        MLP((8,), outputs)
