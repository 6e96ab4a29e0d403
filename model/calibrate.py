"""Making a network's probabilities worth believing, on digits that it has not learnt from.

The temperature (Guo et al., "On calibration of modern neural networks", 2017) goes into the last layer's weights, so
that nobody need know of it afterwards; the thresholds of the verdicts go into the model card.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from model import drawn
from model.deform import Deformer
from model.mnist import Split
from model.network import MLP
from model.picture import to_tensor
from model.verdict import DIGITS, Calibration, ranked

COVERAGE = 0.98
REFUSED_DIGITS = 0.01
"""The share of real digits that may be refused, for the sake of what is none."""
TEMPERATURES = torch.logspace(-1, 1, 201, base=4)
SEED = 271_828  # of the drawings to calibrate on: no training draws with it


@torch.inference_mode()
def calibrate(network: MLP, validation: Split) -> tuple[MLP, Calibration]:
    """The network with its temperature set, and the thresholds of its verdicts.

    Both come from `validation` as it is, deformed, and as many digits that the project draws: what is written on a page
    is all of that. The network itself is left alone.
    """
    inputs, labels = _digits(validation)
    logits = network(inputs)
    temperature = min(TEMPERATURES.tolist(), key=lambda t: float(F.cross_entropy(logits[:, :DIGITS] / t, labels)))
    network = _cooled(network, temperature)
    logits = logits / temperature
    digits = logits[:, :DIGITS].softmax(1).numpy()
    hesitant, confident = (_mass(digits[group], labels.numpy()[group]) for group in _groups(digits))
    refusing = network.outputs > DIGITS
    outliers = logits.softmax(1)[: len(validation), DIGITS:].sum(1)
    return network, Calibration(
        coverage=COVERAGE,
        refuse_above=float(outliers.quantile(1 - REFUSED_DIGITS)) if refusing else 1.0,
        hesitant_mass=hesitant,
        confident_mass=confident,
    )


def _digits(validation: Split) -> tuple[torch.Tensor, torch.Tensor]:
    everything = torch.arange(len(validation))
    images, labels = drawn.digits(len(validation), SEED)
    inputs = (
        to_tensor(validation.images),
        Deformer(validation.images, SEED).batch(everything),
        to_tensor(images),
    )
    return torch.cat(inputs), torch.cat((validation.labels, validation.labels, torch.from_numpy(labels)))


def _cooled(network: MLP, temperature: float) -> MLP:
    cooled = MLP(network.hidden, network.outputs).eval()
    cooled.load_state_dict(network.state_dict())
    cooled.layers[-1].weight.div_(temperature)
    cooled.layers[-1].bias.div_(temperature)
    return cooled


def _groups(digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confident = digits.max(1) >= COVERAGE
    return ~confident, confident


def _mass(digits: np.ndarray, labels: np.ndarray) -> float:
    """The probability that stands before the true digit, in all but 1 - COVERAGE of cases (split conformal)."""
    before = sorted(_before(likely, label) for likely, label in zip(digits.tolist(), labels.tolist(), strict=True))
    rank = int(np.ceil((len(before) + 1) * COVERAGE))
    return before[rank - 1] if rank <= len(before) else 1.0


def _before(likely: list[float], label: int) -> float:
    order = ranked(likely)
    return min(1.0, sum(likely[digit] for digit in order[: order.index(label)]))
