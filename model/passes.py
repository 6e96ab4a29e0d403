"""The passes of a training step through an MLP, forward and backward, written out.

Everything stands on its side: pictures are columns, units are rows, so that all matrix products are of the kinds that
take least time and normalisation sums along rows. Weights, activations and gradients are bfloat16 where asked for;
the parameters themselves, what is accumulated from them, and the statistics of batch normalisation stay float32.
"""

from __future__ import annotations

import torch
from torch import nn

from model.network import MLP


def in_one_piece(network: MLP) -> torch.Tensor:
    """All parameters of a network as one float32 tensor, whose `grad` is all their gradients.

    The network's own are views of both from then on: what is done to all of them at once is one pass over memory.
    """
    whole = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    whole.grad = torch.zeros_like(whole)
    values, gradients = in_pieces(whole, network), in_pieces(whole.grad, network)
    for name, parameter in network.named_parameters():
        parameter.data, parameter.grad = values[name], gradients[name]
    return whole


def in_pieces(whole: torch.Tensor, network: MLP) -> dict[str, torch.Tensor]:
    """Views of one tensor in the shapes of a network's parameters, by their names and in their order."""
    named = dict(network.named_parameters())
    pieces = whole.split([parameter.numel() for parameter in named.values()])
    return {name: piece.view(parameter.shape) for (name, parameter), piece in zip(named.items(), pieces, strict=True)}


class Passes:
    """Passes through `network`, whose parameters `whole` holds in one piece, and their gradients in `whole.grad`."""

    def __init__(self, network: MLP, whole: torch.Tensor, dtype: torch.dtype):
        self.network, self.whole, self.dtype = network, whole, dtype
        same = dtype == whole.dtype
        self.values = whole if same else torch.empty_like(whole, dtype=dtype)
        self.gradients = whole.grad if same else torch.zeros_like(whole, dtype=dtype)
        self.weights, self.into = in_pieces(self.values, network), in_pieces(self.gradients, network)
        self.norms = list(getattr(network, "norms", ()))
        self.last = len(network.layers) - 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Digit images (784, B) to logits (outputs, B); keeps what the way back needs."""
        if self.values is not self.whole:
            self.values.copy_(self.whole)
        self.inputs, self.normalized = [x], []
        for i in range(self.last):
            self.inputs.append(self._activated(i, self._linear(i)))
        return self._linear(self.last)

    def backward(self, change: torch.Tensor) -> None:
        """Puts into `whole.grad` what follows from `change`, the loss's derivative by the logits (outputs, B)."""
        change = change.to(self.dtype)
        for i in reversed(range(self.last + 1)):
            torch.mm(change, self.inputs[i].t(), out=self.into[f"layers.{i}.weight"])
            if self._has_bias(i):
                torch.sum(change, 1, out=self.into[f"layers.{i}.bias"])
            if i:
                change = self._turned(i) @ change
                change = self._unactivated(i - 1, change)
        if self.gradients is not self.whole.grad:
            self.whole.grad.copy_(self.gradients)

    def _linear(self, i: int) -> torch.Tensor:
        weight, x = self.weights[f"layers.{i}.weight"], self.inputs[i]
        return torch.addmm(self.weights[f"layers.{i}.bias"][:, None], weight, x) if self._has_bias(i) else weight @ x

    def _turned(self, i: int) -> torch.Tensor:
        weight = self.weights[f"layers.{i}.weight"].t()
        # tiles of bfloat16 are multiplied in half the time where they need not be turned as well
        return weight.contiguous() if self.dtype == torch.bfloat16 else weight

    def _has_bias(self, i: int) -> bool:
        return i == self.last or not self.norms  # a normalised layer's stays zero

    def _activated(self, i: int, sums: torch.Tensor) -> torch.Tensor:
        """Layer i's sums (width, B), normalised where the network does that, and their positive part."""
        if self.norms:
            norm = self.norms[i]
            out, mean, factor = torch.native_group_norm(sums[None], norm.weight, norm.bias, *_alone(sums), norm.eps)
            _follow(norm, sums.shape[1], mean[0], factor[0])
            self.normalized.append((sums, mean, factor))
            sums = out[0]
        self._bits(sums).clamp_(min=0)
        return sums

    def _unactivated(self, i: int, change: torch.Tensor) -> torch.Tensor:
        """The way back through `_activated`; what it makes of `change` may be in `change` itself."""
        bits = self._bits(change)
        torch.ops.aten.threshold_backward.grad_input(bits, self._bits(self.inputs[i + 1]), 0, grad_input=bits)
        if not self.norms:
            return change
        norm, (sums, mean, factor) = self.norms[i], self.normalized[i]
        change, weight, bias = torch.ops.aten.native_group_norm_backward(
            change[None], sums[None], mean, factor, norm.weight, *_alone(sums), (True, True, True)
        )
        self.into[f"norms.{i}.weight"].copy_(weight)
        self.into[f"norms.{i}.bias"].copy_(bias)
        return change[0]

    def _bits(self, x: torch.Tensor) -> torch.Tensor:
        """A number's sign is that of its bits read as an integer, and integers are compared faster."""
        return x.view(torch.int16 if self.dtype == torch.bfloat16 else torch.int32)


def _alone(sums: torch.Tensor) -> tuple[int, int, int, int]:
    """Has each row be a group of its own: batch normalisation of columns is group normalisation of one picture whose
    channels are the rows, and PyTorch does that in a fraction of the time."""
    rows, columns = sums.shape
    return 1, rows, columns, rows


def _follow(norm: nn.BatchNorm1d, count: int, mean: torch.Tensor, factor: torch.Tensor) -> None:
    """Has the running statistics follow those of a batch of `count`; `factor` is one over the deviation."""
    variance = (factor**-2 - norm.eps) * (count / (count - 1))
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)
    norm.num_batches_tracked += 1
