"""The multilayer perceptron (MLP) in torch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from model.presets import Preset
from model.task import DIGITS, OUTPUTS, PIXELS


class MLP(nn.Module):
    """Linear layers with ReLU between them, from 784 pixels to ten logits, or to fourteen for a network that refuses.

    The state is `layers.0.weight`, `layers.0.bias`, `layers.1.weight` and so on.
    """

    def __init__(self, hidden: tuple[int, ...], outputs: int = DIGITS):
        super().__init__()
        if outputs not in OUTPUTS:
            raise ValueError(f"an MLP has {' or '.join(map(str, OUTPUTS))} outputs, not {outputs}")
        if not hidden or any(width < 1 for width in hidden):
            raise ValueError(f"hidden layers must be one or more positive widths, not {hidden}")
        self.hidden, self.outputs = tuple(hidden), outputs
        widths = (PIXELS, *hidden, outputs)
        self.layers = nn.ModuleList(nn.Linear(m, n) for m, n in zip(widths, widths[1:], strict=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, outputs) of ink, float32 (N, 784), 0 to 1."""
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


class BatchNormMLP(MLP):
    """An MLP with batch normalisation before each ReLU (Ioffe and Szegedy, 2015): trains faster, to higher accuracy."""

    def __init__(self, hidden: tuple[int, ...], outputs: int = DIGITS):
        super().__init__(hidden, outputs)
        for layer in self.layers[:-1]:
            layer.register_parameter("bias", None)  # batch normalisation would subtract it
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = torch.relu(norm(layer(x)))
        return self.layers[-1](x)


def build_network(preset: Preset) -> MLP:
    """Return a randomly initialised network of a preset, with batch normalisation where the preset says so."""
    outputs = OUTPUTS[preset.drawn]
    return BatchNormMLP(preset.hidden, outputs) if preset.batch_norm else MLP(preset.hidden, outputs)


def to_tensor(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Convert digit images, uint8 (N, 28, 28), to the network's input: float32 (N, 784), 0 to 1."""
    return torch.as_tensor(images).flatten(1).to(torch.float32).div_(255)


@torch.no_grad()
def fuse_batch_norm(network: MLP) -> MLP:
    """Return a plain MLP, in eval mode, with batch normalisation fused into the linear layers; `network` stays."""
    with torch.device("meta"):  # no random initialisation: the layers are replaced
        plain = MLP(network.hidden, network.outputs)
    trained = copy.deepcopy(network).eval()
    plain.layers = trained.layers
    if isinstance(trained, BatchNormMLP):
        for i, (layer, norm) in enumerate(zip(trained.layers, trained.norms, strict=False)):
            assert isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
            plain.layers[i] = fuse_linear_bn_eval(layer, norm)
    return plain.eval()
