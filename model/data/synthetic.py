"""Synthetic pictures: digits in styles that MNIST hardly has, and non-digits.

Every picture is a skeleton whose control points are moved at random, bent, slanted, and drawn with a random pen width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from model.data import figures, glyphs, rasterize
from model.data.glyphs import Skeleton
from model.task import DIGITS, REASONS

PENS = ((1.5, 3.2), (3.2, 6.5))  # widths in pixels of the 20-pixel box: usual pens, and wide ones
WIDE_PEN_SHARE = 0.35
UNLIKE = (12, 3, 2, 1, 1, 1)
"""Shares of letters, other alphabets and signs, doodles, framed digits, underlined digits, dashes."""


@dataclass(frozen=True)
class Variation:
    """Ranges in which drawings of one skeleton differ: half-widths of uniform distributions, but for the first.

    Lengths are on the field of 100.
    """

    displacement: float = 7.0  # greatest standard deviation of a control point's displacement
    stretch: float = 0.3  # log of the factor on the width; the height gets its inverse
    slant: float = 0.3
    turn: float = math.radians(10)
    bend: float = 5.0  # amplitude


USUAL = Variation()
ANY_WAY_UP = Variation(turn=math.pi)


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw digits in random order, about as many of each: images uint8 (count, 28, 28), labels int64 (count,)."""
    return _shuffle(*_Painter(seed).digits(count), seed)


def others(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw non-digits in random order: images uint8 (count, 28, 28), labels int64 (count,), 10 + the index in REASONS.

    Half are unlike any digit (letters, signs, doodles, framed and underlined digits, dashes), a sixth each has one of
    the other reasons.
    """
    artist = _Painter(seed)
    parts = others_of_each(count)
    images = [getattr(artist, reason)(part) for reason, part in parts.items()]
    labels = np.repeat(np.arange(DIGITS, DIGITS + len(REASONS)), list(parts.values()))
    return _shuffle(np.concatenate(images), labels, seed)


def others_of_each(count: int) -> dict[str, int]:
    """Return how many of `count` non-digits have each reason."""
    return dict(zip(REASONS, _divide(count, (1, 1, 1, 3)), strict=True))


def draw(forms: list[Skeleton], each: int, seed: int, variation: Variation, pens: tuple[float, float]) -> np.ndarray:
    """Draw each skeleton `each` times, one after another: images uint8 (forms * each, 28, 28).

    `pens` is the range of the pen's width in pixels of the 20-pixel box.
    """
    artist = _Painter(seed, variation)
    lines = artist.lines(forms, torch.arange(len(forms)).repeat_interleave(each))
    return artist.rasterize(lines, artist.between(*pens, len(lines)))


def _shuffle(images: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(labels))
    return images[order], labels[order].astype(np.int64)


class _Painter:
    """Draws batches of one kind each; all random numbers come from `seed`."""

    def __init__(self, seed: int, variation: Variation = USUAL):
        self.random = torch.Generator().manual_seed(seed)
        self.variation = variation

    def digits(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % DIGITS
        images = [self._draw(glyphs.digits()[digit], int((labels == digit).sum())) for digit in range(DIGITS)]
        return np.concatenate(images), np.sort(labels)

    def unlike_any_digit(self, count: int) -> np.ndarray:
        letters, foreign, doodles, framed, underlined, dashes = _divide(count, UNLIKE)
        drawn = [
            self._draw(glyphs.letters(), letters),
            self._draw(_thin(figures.foreign()), foreign, 0.8),
            self._draw(_thin(figures.doodles()), doodles, 0.5),
            self._draw(_thin(figures.framed()), framed, 0.5),
        ]
        return np.concatenate((*drawn, self._underlined(underlined), self._dashes(dashes)))

    def dot(self, count: int) -> np.ndarray:
        """Draw filled, slightly stretched discs."""
        around = torch.linspace(0, 2 * math.pi, 33)
        ring = torch.stack((torch.cos(around), torch.sin(around)), 1)
        filled = torch.cat([ring * radius for radius in (0, 0.2, 0.4, 0.6, 0.8, 1)])
        stretch = torch.exp(self._uniform(count, 1, 2) * 0.2)
        points = self._bend(filled * stretch * 50 + 50, 3.0)
        return self.rasterize(points, self.between(3.0, 12.0, count))

    def scribble(self, count: int) -> np.ndarray:
        """Draw random walks, hatching, spirals, bundles of lines, filled boxes."""
        ways = (self._walks, self._hatchings, self._spirals, self._bundles, self._boxes)
        return np.concatenate([way(n) for way, n in zip(ways, _divide(count, (1, 1, 1, 1, 1)), strict=True)])

    def several(self, count: int) -> np.ndarray:
        """Draw two to five digits side by side, seldom one below the other, or a digit after a sign."""
        forms = _thin([glyphs.skeleton(shape) for shapes in glyphs.DIGITS.values() for shape in shapes])
        *counts, signed = _divide(count, (10, 5, 3, 2, 3))
        images = [self._signed(forms, signed)]
        for number, n in zip((2, 3, 4, 5), counts, strict=True):
            lines = [self._random_lines(forms, n) for _ in range(number)]
            # a wide pen would fill the loops of small digits
            images.append(self.rasterize(self._arrange(lines), self._random_width(n) * (1.0 if number == 2 else 0.7)))
        return np.concatenate(images)

    def _signed(self, forms: list[Skeleton], count: int) -> np.ndarray:
        signs = [glyphs.skeleton(sign) for sign in figures.SIGNS]
        lines = [self._random_lines(signs, count), self._random_lines(forms, count)]
        return self.rasterize(self._arrange(lines, columns=0), self._random_width(count, 0.7))

    def _underlined(self, count: int) -> np.ndarray:
        """Draw digits above a line that does not touch them."""
        # a 1 often has a foot, and a 2 may have a foot of its own
        shapes = [shape for digit in range(DIGITS) if digit not in (1, 2) for shape in glyphs.DIGITS[digit]]
        points = self._random_lines(_thin([glyphs.skeleton(shape) for shape in shapes]), count)
        low, high = points.amin(1), points.amax(1)
        half = (high - low)[:, :1] / 2 * self.between(0.7, 1.3, count)[:, None]
        along = torch.linspace(-1, 1, 60)
        x = (low + high)[:, :1] / 2 + half * along
        y = high[:, 1:] + self.between(12, 32, count)[:, None] + self._uniform(count, 1) * 4 * along
        return self.rasterize(torch.cat((points, torch.stack((x, y), 2)), 1), self._random_width(count, 0.7))

    def _arrange(self, lines: list[torch.Tensor], columns: float = 0.1) -> torch.Tensor:
        """Place lines of points (N, P, 2) in a row, a part of them in a column, and concatenate them."""
        n = len(lines[0])
        axis = (torch.rand(n, generator=self.random) < columns).long()
        along = torch.nn.functional.one_hot(axis, 2).to(torch.float32)
        placed, end = [], torch.zeros(n)
        for points in lines:
            points = points * torch.exp(self._uniform(n, 1, 1) * 0.15)
            low, high = points.amin(1), points.amax(1)
            gap = 8 + 30 * torch.rand(n, generator=self.random)
            shift = (end + gap - (low * along).sum(1))[:, None] * along
            across = (1 - along) * (self._uniform(n, 2) * 12 - (low + high) / 2)
            placed.append(points + (shift + across)[:, None])
            end = (placed[-1].amax(1) * along).sum(1)
        return torch.cat(placed, 1)

    def _dashes(self, count: int) -> np.ndarray:
        angle = self._uniform(count) * math.radians(35)
        along = torch.linspace(-50, 50, 60)
        points = torch.stack((torch.cos(angle)[:, None] * along, torch.sin(angle)[:, None] * along), 2)
        return self.rasterize(self._bend(points, 3.0), self._random_width(count))

    def _walks(self, count: int) -> np.ndarray:
        images = []
        for corners, n in zip((9, 14, 20), _divide(count, (1, 1, 1)), strict=True):
            # of this zigzag only the curve matrix is used, with random control points
            zigzag = glyphs.skeleton(" ".join(f"{i % 2 * 80},{i * 5}" for i in range(corners)))
            places = 100 * torch.rand((n, corners, 2), generator=self.random)
            points = torch.einsum("pc,ncd->npd", torch.from_numpy(zigzag.curve[::2]), places)
            images.append(self.rasterize(points, self._random_width(n)))
        return np.concatenate(images)

    def _hatchings(self, count: int) -> np.ndarray:
        turns = self.between(4, 10, count)
        t = torch.linspace(0, 1, 400)
        phase = turns[:, None] * t * 2
        zigzag = (phase % 2 - 1).abs() * 100
        points = torch.stack((zigzag, (t * 100).expand(count, -1)), 2)
        points = points + self._uniform(count, 400, 2) * 1.5
        return self.rasterize(self._bend(self._transform(points, ANY_WAY_UP), 8.0), self._random_width(count))

    def _spirals(self, count: int) -> np.ndarray:
        """Draw growing spirals, and loops along a line."""
        turns = self.between(2.2, 6, count)
        t = torch.linspace(0, 1, 400)
        angle = turns[:, None] * t * 2 * math.pi + self._uniform(count, 1) * math.pi
        growing = (torch.rand((count, 1), generator=self.random) < 0.5).to(torch.float32)
        radius = 10 + 40 * torch.lerp(torch.ones(1, 400), t[None], growing)
        away = (1 - growing) * self.between(30, 90, count)[:, None] * t * turns[:, None] / 2
        points = torch.stack((radius * torch.cos(angle) + away, radius * torch.sin(angle)), 2)
        return self.rasterize(self._bend(self._transform(points, ANY_WAY_UP), 8.0), self._random_width(count))

    def _bundles(self, count: int) -> np.ndarray:
        ends = 100 * torch.rand((count, 7, 2, 2), generator=self.random)
        lines = 5 + (torch.rand((count, 1), generator=self.random) * 3).long()
        index = torch.minimum(torch.arange(7).expand(count, -1), lines - 1)
        ends = torch.gather(ends, 1, index[:, :, None, None].expand(-1, -1, 2, 2))
        t = torch.linspace(0, 1, 30)[:, None]
        points = ends[:, :, None, 0] * (1 - t) + ends[:, :, None, 1] * t
        return self.rasterize(self._bend(points.flatten(1, 2), 8.0), self._random_width(count))

    def _boxes(self, count: int) -> np.ndarray:
        grid = torch.linspace(0, 100, 13)
        filled = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), 2).view(-1, 2)
        stretch = torch.exp(self._uniform(count, 1, 2) * 0.6)
        return self.rasterize(self._bend(filled * stretch, 4.0), self.between(2.5, 5.0, count))

    def _draw(self, forms: list[Skeleton], count: int, pen: float = 1.0) -> np.ndarray:
        """Draw random variations of random forms with pens of this part of the usual width, as fine as the finest."""
        return self.rasterize(self._random_lines(forms, count), self._random_width(count, pen))

    def _random_lines(self, forms: list[Skeleton], count: int) -> torch.Tensor:
        """Draw `count` random variations of randomly chosen forms, as lines of points (count, P, 2)."""
        return self.lines(forms, torch.randint(len(forms), (count,), generator=self.random))

    def lines(self, forms: list[Skeleton], chosen: torch.Tensor) -> torch.Tensor:
        """Draw random variations of the forms at `chosen`, int64 (N,), as lines of points (N, P, 2)."""
        longest = max(len(form.curve) for form in forms)
        points = torch.empty(len(chosen), longest, 2)
        for i in chosen.unique().tolist():
            curve, controls = torch.from_numpy(forms[i].curve), torch.from_numpy(forms[i].controls)
            chosen_here = (chosen == i).nonzero().flatten()
            # dense control points, as in a font's letters, move less each
            deviation = torch.rand((len(chosen_here), 1, 1), generator=self.random) * self.variation.displacement
            deviation = deviation * min(1, 8 / len(controls))
            moved = controls + deviation * torch.randn((len(chosen_here), *controls.shape), generator=self.random)
            line = torch.einsum("pc,ncd->npd", curve, moved)
            points[chosen_here, : len(curve)] = line
            points[chosen_here, len(curve) :] = line[:, -1:]
        return self._bend(self._transform(points, self.variation), self.variation.bend)

    def _transform(self, points: torch.Tensor, ranges: Variation) -> torch.Tensor:
        """Stretch, slant and rotate points (N, P, 2)."""
        n = len(points)
        ratio, slant = self._uniform(n) * ranges.stretch, self._uniform(n) * ranges.slant
        turn = self._uniform(n) * ranges.turn
        cos, sin, wide, high = torch.cos(turn), torch.sin(turn), torch.exp(ratio), torch.exp(-ratio)
        maps = torch.stack((cos * wide, -sin * high - slant * cos, sin * wide, cos * high - slant * sin), 1)
        return points @ maps.view(n, 2, 2).mT

    def _bend(self, points: torch.Tensor, amount: float) -> torch.Tensor:
        """Bend points (N, P, 2) by two random sine waves of amplitude up to `amount` on the field of 100."""
        n = len(points)
        for _ in range(2):
            wave = self._uniform(n, 2, 2) * (2 * math.pi / 80)
            phase, height = self._uniform(n, 1, 2) * math.pi, self._uniform(n, 1, 2) * amount
            points = points + height * torch.sin(points @ wave + phase)
        return points

    def _random_width(self, count: int, part: float = 1.0) -> torch.Tensor:
        usual, wide = (self.between(*pen, count) for pen in PENS)
        width = torch.where(torch.rand(count, generator=self.random) < WIDE_PEN_SHARE, wide, usual)
        return (width * part).clamp(min=PENS[0][0])  # a finer line would fade; pictures are drawn with none

    def rasterize(self, points: torch.Tensor, width: torch.Tensor) -> np.ndarray:
        edge = self.between(0.8, 1.6, len(points))
        return rasterize.draw(points, width, edge).numpy()

    def _uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.random) * 2 - 1

    def between(self, low: float, high: float, count: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=self.random)


def _divide(count: int, weights: tuple[int, ...]) -> list[int]:
    """Divide `count` in proportion to `weights`; the parts sum to `count`."""
    return np.diff(np.cumsum((0, *weights)) * count // sum(weights)).tolist()


def _thin(forms: list[Skeleton]) -> list[Skeleton]:
    """Return the forms with every second point of their curves: enough for lines of a pixel and more."""
    return [Skeleton(form.controls, form.curve[::2]) for form in forms]
