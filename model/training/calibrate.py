"""Calibration of a network's probabilities on pictures that it was not trained on.

The temperature (Guo et al., "On calibration of modern neural networks", 2017) is multiplied into the last layer's
weights; the thresholds of the verdicts go into the model card.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from model import seeds
from model.data import synthetic
from model.data.augment import Deformer
from model.data.splits import Split
from model.inference.decision import Calibration, ranked
from model.network.mlp import MLP, fuse_batch_norm, to_tensor
from model.task import DIGITS

COVERAGE = Calibration.coverage
REFUSED_DIGITS = 0.01
"""Share of real digits that may be refused."""
TEMPERATURES = torch.logspace(-3, 3, 301, base=2)


@torch.no_grad()
def calibrate(network: MLP, validation: Split) -> tuple[MLP, Calibration]:
    """Return a copy of the network with its temperature applied, and the thresholds of its verdicts.

    Temperature and conformal sets are fitted to `validation` (one digit or more); for a network that refuses, and so
    was trained on synthetic digits, also to deformed validation digits and as many synthetic ones, which together
    resemble drawings on the page. The threshold of refusal is fitted to `validation` alone: real digits are the ones
    that must not be refused.
    """
    inputs, labels = _digits(validation, network.outputs > DIGITS)
    logits = network(inputs)
    temperature = min(TEMPERATURES.tolist(), key=lambda t: float(F.cross_entropy(logits[:, :DIGITS] / t, labels)))
    network = _apply_temperature(network, temperature)
    logits = logits / temperature
    digits = logits[:, :DIGITS].softmax(1).numpy()
    hesitant, confident = (_mass(digits[group], labels.numpy()[group]) for group in _groups(digits))
    return network, Calibration(
        coverage=COVERAGE,
        refuse_above=_threshold(logits[: len(validation)]),
        hesitant_mass=hesitant,
        confident_mass=confident,
    )


def _threshold(logits: torch.Tensor) -> float:
    """Return the probability of no digit that REFUSED_DIGITS of these digits exceed; 1 for one that refuses nothing."""
    if logits.shape[1] == DIGITS:
        return 1.0
    outliers = logits.softmax(1)[:, DIGITS:].sum(1)
    return min(1.0, float(outliers.quantile(1 - REFUSED_DIGITS)))


def _digits(validation: Split, and_drawn: bool) -> tuple[torch.Tensor, torch.Tensor]:
    plain = to_tensor(validation.images)
    if not and_drawn:
        return plain, validation.labels
    deformer = Deformer(validation.images, seeds.derive_seed("calibration, deformed"))
    images, labels = synthetic.digits(len(validation), seeds.derive_seed("calibration"))
    deformed, order = deformer.batch(torch.arange(len(validation)))
    inputs = torch.cat((plain, deformed.t().float(), to_tensor(images)))
    return inputs, torch.cat((validation.labels, validation.labels[order], torch.from_numpy(labels)))


def _apply_temperature(network: MLP, temperature: float) -> MLP:
    cooled = fuse_batch_norm(network)
    for parameter in cooled.layers[-1].parameters():
        parameter.div_(temperature)
    return cooled


def _groups(digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confident = digits.max(1) >= COVERAGE
    return ~confident, confident


def _mass(digits: np.ndarray, labels: np.ndarray) -> float:
    """Return the COVERAGE quantile of the probability ranked before the true digit (split conformal prediction)."""
    before = sorted(_mass_before(likely, label) for likely, label in zip(digits.tolist(), labels.tolist(), strict=True))
    rank = int(np.ceil((len(before) + 1) * COVERAGE))
    return before[rank - 1] if rank <= len(before) else 1.0


def _mass_before(likely: list[float], label: int) -> float:
    order = ranked(likely)
    return min(1.0, sum((likely[digit] for digit in order[: order.index(label)]), 0.0))
