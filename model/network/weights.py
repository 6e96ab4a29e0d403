"""The network in torch to and from files of weights (`model.inference.weights`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.files import atomic_write
from model.inference import weights
from model.inference.weights import ModelCard
from model.network.mlp import MLP


def serialize(network: MLP, card: ModelCard) -> bytes:
    """Return the network as a safetensors file; equal networks and cards give equal bytes.

    Raises WeightsError when a weight is NaN, infinite or beyond half precision, or the card does not fit.
    """
    state = network.state_dict()
    return weights.pack({name: tensor.cpu().half().contiguous().numpy() for name, tensor in state.items()}, card)


def deserialize(data: bytes) -> tuple[MLP, ModelCard]:
    """Return the MLP, in eval mode and float32, with its card; raises WeightsError."""
    arrays, card = weights.unpack(data)
    with torch.device("meta"):  # a random start would cost time and move the caller's generator
        network = MLP(card.hidden, card.outputs)
    state = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    network.load_state_dict(state, assign=True)
    return network.eval(), card


def save_network(path: Path | str, network: MLP, card: ModelCard) -> None:
    """Write the network to a file in one step; raises OSError, or WeightsError as `serialize` does."""
    atomic_write(Path(path), serialize(network, card))


def load_network(path: Path | str) -> tuple[MLP, ModelCard]:
    """Return the MLP in a file, as `deserialize` does; raises WeightsError that begins with the path."""
    return deserialize(weights.read(path))
