"""What the tests of the model share: the real MNIST, and a small network trained on some of it."""

import pytest
import torch

from model.data import splits
from model.inference import weights
from model.inference.classifier import SHIPPED
from model.inference.decision import Calibration
from model.network.mlp import MLP
from model.network.weights import load_network, save_network
from model.task import DATA_SHA256
from model.training.train import Config, train


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Several test processes on few cores: torch's threads would fight each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def mnist():
    """All of MNIST, read once; `make data` (or `python -m model data`) puts it where it is looked for."""
    return splits.load()


@pytest.fixture(scope="session")
def small_mnist(mnist):
    return mnist.subset(3_000)


@pytest.fixture
def card():
    return weights.ModelCard(
        preset="basic",
        hidden=(16, 12),
        epochs=2,
        seed=7,
        data_sha256=DATA_SHA256,
        command="python -m model train --preset basic --epochs 2 --seed 7",
        created="2025-01-31T12:00:00+00:00",
        libraries={"python": "3.11.0", "torch": "2.13.0"},
        validation_accuracy=0.9712,
        test_accuracy=None,
    )


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return MLP((16, 12)).eval()


@pytest.fixture(scope="session")
def trained(small_mnist):
    """A network of the basic preset's shape after some epochs on 3,000 digits: it reads most of them."""
    return train(Config("basic", 8), small_mnist).network


@pytest.fixture(scope="session")
def trained_file(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "trained.safetensors"
    card = weights.ModelCard("basic", trained.hidden, 1, 0, "", "", "", {}, 0.8, None)
    save_network(path, trained, card)
    return path


@pytest.fixture(scope="session")
def refusing_file(tmp_path_factory):
    """An untrained network of fourteen outputs that is unsure of most digits and refuses some."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = MLP((16, 12), 14).eval()
    path = tmp_path_factory.mktemp("weights") / "refusing.safetensors"
    calibration = Calibration(0.9, refuse_above=0.3, hesitant_mass=0.3)
    card = weights.ModelCard("basic", network.hidden, 1, 0, "", "", "", {}, 0.1, None, 14, calibration)
    save_network(path, network, card)
    return path


@pytest.fixture(scope="session")
def shipped_network():
    return load_network(SHIPPED)[0]
