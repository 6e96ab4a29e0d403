"""The multilayer perceptron (MLP)."""

from __future__ import annotations

import torch
from torch import nn

from model.presets import Preset
from model.task import DIGITS, OUTPUTS, PIXELS


class MLP(nn.Module):
    """Linear layers with ReLU between them, from 784 pixels to ten logits, or to fourteen where it also refuses.

    The state is ``layers.0.weight``, ``layers.0.bias``, ``layers.1.weight`` and so on, whatever the training
    added meanwhile: batch normalisation is folded into the linear layers afterwards (`fold`).
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
        """Float32 ink (N, 784), 0 to 1, to logits (N, outputs)."""
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


class NormalizedMLP(MLP):
    """The same network with batch normalisation before each ReLU (Ioffe and Szegedy 2015): trains faster and better.

    Normalisation would take the biases of its layers away again: they are zero.
    """

    def __init__(self, hidden: tuple[int, ...], outputs: int = DIGITS):
        super().__init__(hidden, outputs)
        for layer in self.layers[:-1]:
            nn.init.zeros_(layer.bias)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = torch.relu(norm(layer(x)))
        return self.layers[-1](x)


def for_training(preset: Preset) -> MLP:
    """A freshly initialised network of this preset, batch normalisation included where the preset has it."""
    outputs = OUTPUTS[preset.drawn]
    return NormalizedMLP(preset.hidden, outputs) if preset.batch_norm else MLP(preset.hidden, outputs)


@torch.no_grad()
def fold(network: MLP) -> MLP:
    """A plain MLP, in eval mode, that computes what `network` computes in eval mode.

    A normalised layer is g * (Wx + b - mean) / deviation + shift: still linear in x, so its factors go into W and b.
    """
    with torch.random.fork_rng(devices=[]):  # its random start is overwritten below and must not spend anybody's chance
        plain = MLP(network.hidden, network.outputs)
    norms = getattr(network, "norms", [])
    for i, (target, source) in enumerate(zip(plain.layers, network.layers, strict=True)):
        weight, bias = source.weight, source.bias
        if i < len(norms):
            norm = norms[i]
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weight, bias = weight * factor[:, None], (bias - norm.running_mean) * factor + norm.bias
        target.weight.copy_(weight)
        target.bias.copy_(bias)
    return plain.eval()
