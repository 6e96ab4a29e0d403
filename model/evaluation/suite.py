"""The suite: pictures harder than MNIST's, by which versions are compared beside the gate's digits.

Nothing here is learnt from: the hands are drawn from skeletons that training does not have, all other digits are the
gate's. Every picture names its origin, since pictures of one digit, or of one skeleton, are read alike: they are a
cluster, which counts as about one picture where differences are tested.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

from model import seeds
from model.data import hands, synthetic
from model.data.augment import Deformer
from model.data.splits import Split
from model.evaluation.robustness import CHANGES, digit_images
from model.task import NO_DIGIT

Tell = Callable[[float], None]
"""Called with the fraction done, 0 to 1."""

HANDS_EACH = 12
DEFORMED = 2
CHANGED = 400
LETTERS_EACH = 10


@dataclass(frozen=True, eq=False)
class Group:
    """Pictures of one kind: images uint8 (N, 28, 28), labels int64 (N,), 0 to 9 or NO_DIGIT.

    `origin`, int64 (N,), is the index of the gate's digit that a picture was made from; of drawings, a number from the
    count of the gate's digits up for each skeleton, or for the picture itself. Equal origins in two groups are one.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def hard_pictures(gate: Split, tell: Tell | None = None) -> list[Group]:
    """Return the suite for the gate's digits; deterministic, takes some seconds."""
    tell = tell or (lambda fraction: None)
    images, labels, skeleton = hands.digits(HANDS_EACH, _seed("hands"))
    drawn = [Group("hands", images, labels, len(gate) + skeleton)]
    tell(0.1)
    drawn.append(_deformed(gate))
    tell(0.2)
    drawn += _changed(gate, lambda done: tell(0.2 + 0.7 * done))
    drawn.append(_others(int(drawn[0].origin.max()) + 1))
    tell(1)
    return drawn


def _seed(purpose: str, *numbers: int) -> int:
    return seeds.derive_seed(f"suite, {purpose}", *numbers)


def _deformed(gate: Split) -> Group:
    """Deform each digit as training does, DEFORMED times."""
    deformer = Deformer(gate.images, _seed("deformed"))
    batches = [deformer.batch(torch.arange(len(gate))) for _ in range(DEFORMED)]
    ink = torch.cat([columns.t() for columns, _ in batches]).float()
    images = (ink * 255).round().to(torch.uint8).view(-1, *gate.images.shape[1:])
    origin = torch.cat([index for _, index in batches]).numpy()
    return Group("deformed", images.numpy(), gate.labels.numpy()[origin], origin)


def _others(first: int) -> Group:
    """Draw non-digits: letters of other hands and alphabets, and a third as training draws them, by another seed:
    dots, scribbles, several digits, letters. Number the origins from `first`."""
    letters, letter = hands.others(LETTERS_EACH, _seed("letters"))
    usual, _ = synthetic.others(len(letters) // 2, _seed("others"))
    images = np.concatenate((letters, usual))
    origin = first + np.concatenate((letter, letter.max() + 1 + np.arange(len(usual))))
    return Group("no digit", images, np.full(len(images), NO_DIGIT, np.int64), origin)


# Pictures made from the gate's digits, and normalised like any picture

Make = Callable[[np.ndarray, np.random.Generator], Image.Image]
"""Make a picture, L, of a digit's ink, uint8 (28, 28)."""
_APPLY = {change.name: change.apply for change in CHANGES}
_MARGIN = 14
"""Pixels cut off each side, outside the digit, where the paper is uneven: estimating it takes time by the pixel."""


def _change(name: str, low: float, high: float) -> Make:
    """Change the digit as the strength report does, by a random level."""
    return lambda image, random: ImageOps.invert(_APPLY[name](image, random.uniform(low, high), random))


def _with_noise(image: np.ndarray, random: np.random.Generator) -> Image.Image:
    return ImageOps.crop(_change("noise", 14, 24)(image, random), _MARGIN)


def _on_paper(image: np.ndarray, random: np.random.Generator) -> Image.Image:
    """Put the digit, a little turned, on rough paper under uneven light, in ink that may be faint."""
    placed = ImageOps.crop(_APPLY["angle"](image, random.uniform(-15, 15), random), _MARGIN)
    ink = np.asarray(placed, np.float32) / 255
    side = len(ink)
    fibres = random.normal(0, 6, (side // 3, side // 3)).astype(np.float32)
    rough = np.asarray(Image.fromarray(fibres).resize((side, side), Image.Resampling.BICUBIC))
    along = np.linspace(-1, 1, side, dtype=np.float32)
    light = random.uniform(170, 225) + random.uniform(-30, 30) * along[:, None] + random.uniform(-30, 30) * along
    paper = light + rough + random.normal(0, 2, ink.shape)
    return Image.fromarray((paper * (1 - random.uniform(0.2, 0.7) * ink)).round().clip(0, 255).astype(np.uint8))


KINDS: dict[str, Make] = {
    "turned": _change("angle", -28, 28),
    "small": _change("size", 7, 16),
    "thin and wide lines": _change("line width", -1.8, 3.5),
    "noisy": _with_noise,
    "blurred": _change("blur", 1, 2.3),
    "on paper": _on_paper,
}


def _changed(gate: Split, tell: Tell) -> Iterator[Group]:
    """Return a group for each of KINDS; each has its own digits of the gate, while these last."""
    order = np.random.default_rng(_seed("order")).permutation(len(gate))
    count = min(CHANGED, len(gate))
    total, done = count * len(KINDS), itertools.count(1)
    for number, (name, make) in enumerate(KINDS.items()):
        random = np.random.default_rng(_seed(name))
        origin = order[np.arange(number * count, (number + 1) * count) % len(gate)]

        def pictures(origin: np.ndarray, make: Make, random: np.random.Generator) -> Iterator[Image.Image]:
            for image in gate.images.numpy()[origin]:
                yield make(image, random)
                tell(next(done) / total)

        images, _ = digit_images(pictures(origin, make, random))
        yield Group(name, images, gate.labels.numpy()[origin], origin)
