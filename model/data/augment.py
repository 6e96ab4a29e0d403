"""Random deformations of digit images during training: the same digit as other hands would have written it.

Every deformed digit is again what MNIST's own making would have produced: its ink fills a 20-pixel box and its
centre of mass stays at the centre of the field. So the network never sees in training what `picture.py` would not
hand it in service. Affine maps and elastic fields follow Simard, Steinkraus and Platt, "Best practices for
convolutional neural networks applied to visual document analysis" (2003).

Pictures stand side by side, one a column, a pixel a row. A few dozen of them share one deformation, another one each
time they are seen: what is computed per deformation costs little then, and the pictures are sampled as whole rows. All
of it in bfloat16, which is as fine as a byte and half as much to move as float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from model.task import BOX, PIXELS, SIDE

DIRECTIONS = 64
CONTROL_POINTS = 7
FELT_SHARE = 0.15  # how many digits are written with a felt pen
GROUP = 64  # digits that share a deformation
RELATED = 4  # groups that share rotation, shear and stretch, and differ in the rest
TOGETHER = 8  # groups that are sampled at once: they stay in the processor's cache
_NEXT = torch.tensor((0, 1, SIDE, SIDE + 1), dtype=torch.int32) * TOGETHER
_FULL = int(torch.ones((), dtype=torch.bfloat16).view(torch.int16))


@dataclass(frozen=True)
class Ranges:
    """How far a deformation may go; each figure is the half-width of a uniform range unless it says otherwise."""

    rotation: float = math.radians(15)
    shear: float = 0.3
    stretch: float = 0.25  # log of the ratio of width to height
    size: float = 0.06  # relative to the 20-pixel box
    shift: float = 1.0  # pixels
    elastic: float = 1.0  # pixels: the greatest standard deviation of the control points' displacements
    thickness: float = 0.7  # blend towards the ink widened (or thinned) by one pixel on each side
    fade: float = 0.15  # log of the least factor on the ink
    gain: float = 0.5  # log of the greatest factor on the ink, clipped at full ink
    felt: float = 1.6  # pixels that a felt pen's line is wider by, at most, on each side


class Deformer:
    """Deforms batches of one data set's digit images; `seed` makes the sequence repeatable.

    `images` is uint8 (N, 28, 28). What a linear map does to the bounding box of the ink is read off the ink's support
    function (the farthest extent in each direction), computed once per image, instead of being measured on every
    deformed picture.
    """

    def __init__(self, images: torch.Tensor, seed: int, ranges: Ranges | None = None):
        self.images = images.flatten(1)
        self.ranges = ranges or Ranges()
        self.random = torch.Generator().manual_seed(seed)
        self.support = support_function(images)
        self.basis = _grid_basis()

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The digits at `index` (int64, B), deformed: bfloat16 (784, B), 0 to 1.

        They come in another order than asked for: the second is their index again, in that order.
        """
        maps = self._linear_maps(TOGETHER // RELATED * math.ceil(len(index) / (GROUP * TOGETHER)))
        order, extent = self._alike(index, maps)
        groups = len(extent)
        felt = self._felt(groups)
        fit = (BOX * (1 + self._uniform(groups) * self.ranges.size) - 2 * felt) / extent
        rows, weights = self._taps(maps.repeat_interleave(RELATED, 0) * fit[:, None, None])
        amount = torch.rand(groups, generator=self.random) * self.ranges.thickness
        ink = []
        for part, shown in enumerate(order.chunk(len(rows))):
            sampled = _sampled(self._columns(shown), rows[part], weights[part])
            own = slice(part * TOGETHER, (part + 1) * TOGETHER)
            ink.append(_penned(sampled, amount[own], felt[own]))
        return torch.cat(ink, 1)[:, : len(index)], order[: len(index)]

    def _uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.random) * 2 - 1

    def _felt(self, count: int) -> torch.Tensor:
        """By how many pixels each group's lines are to be wider on both sides: (count,), most of them 0."""
        chosen = torch.rand(count, generator=self.random) < FELT_SHARE
        return chosen * torch.rand(count, generator=self.random) * self.ranges.felt

    def _linear_maps(self, n: int) -> torch.Tensor:
        """Rotation, shear and stretch: (n, 2, 2)."""
        s = self.ranges
        angle, shear = self._uniform(n) * s.rotation, self._uniform(n) * s.shear
        ratio = torch.exp(self._uniform(n) * s.stretch / 2)
        cos, sin = torch.cos(angle), torch.sin(angle)
        return torch.stack(
            (cos * ratio, (cos * shear - sin) / ratio, sin * ratio, (sin * shear + cos) / ratio), 1
        ).view(n, 2, 2)

    def _alike(self, index: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Groups of digits that their map makes about equally large, RELATED of them by each map.

        Returns the index in its new order, the last few of it repeated so that all groups are of one size, and
        the extent in pixels that stands for each group's: (groups,).
        """
        count, size = len(index), math.ceil(len(index) / len(maps) / RELATED)
        full = torch.arange(len(maps) * RELATED * size).clamp_(max=count - 1)
        index = index[full].view(len(maps), -1)
        extent = torch.maximum(self._extent(index, maps[:, 0]), self._extent(index, maps[:, 1])).clamp_(min=1)
        extent.view(-1)[count:] = torch.inf  # repeated ones come last, where they are cut off
        extent, order = extent.sort(stable=True)
        extent = extent.view(-1, size)
        middle = extent.where(extent.isfinite(), torch.nan).nanmedian(1).values.nan_to_num(BOX)
        return index.gather(1, order).flatten(), middle

    def _extent(self, index: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """The width in pixels of the mapped ink of each row's digits (M, B), along the axis whose row of the map is
        given (M, 2): (M, B)."""
        turn = torch.atan2(row[:, 1], row[:, 0]) * (DIRECTIONS / (2 * math.pi))
        direction = (turn.round().long() % DIRECTIONS)[:, None]
        opposite = (direction + DIRECTIONS // 2) % DIRECTIONS
        reach = self.support.view(-1)
        first = index * DIRECTIONS
        return row.norm(dim=1)[:, None] * (reach.take(first + direction) + reach.take(first + opposite))

    def _taps(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The four pixels that each pixel of each group's pictures is mixed from, and how much of each, more or less
        ink included. For each part of TOGETHER groups int32, rows of its columns, and bfloat16: (784 * TOGETHER, 4)."""
        s = self.ranges
        gain = torch.exp(torch.rand(len(maps), generator=self.random) * (s.gain + s.fade) - s.fade)
        x, y = self._sampling_grid(maps)
        inside = (x > -0.5) & (x < SIDE - 0.5) & (y > -0.5) & (y < SIDE - 0.5)
        x, y = x.clamp(0, SIDE - 1.001), y.clamp(0, SIDE - 1.001)
        left, top = x.int(), y.int()
        right, below = x - left, y - top
        ink = inside * (gain.view(-1, 1, TOGETHER) / 255)
        lower = below * ink
        upper = ink - lower
        weights = torch.stack((upper - upper * right, upper * right, lower - lower * right, lower * right), 3)
        group = torch.arange(TOGETHER, dtype=torch.int32)
        rows = ((top * SIDE + left) * TOGETHER + group)[..., None] + _NEXT
        return rows.flatten(1, 2), weights.bfloat16().flatten(1, 2)

    def _sampling_grid(self, maps: torch.Tensor) -> torch.Tensor:
        """Where each output pixel takes its ink from, in pixels from the first one's centre: x and y, each
        (parts, 784, TOGETHER)."""
        n = len(maps)
        a, b, c, d = maps.flatten(1).unbind(1)
        inverse = torch.stack((d, -b, -c, a), 1) / (a * d - b * c)[:, None]
        shift = self._uniform(n, 2) * self.ranges.shift
        noise = torch.randn((n, 2 * CONTROL_POINTS**2), generator=self.random)
        amount = torch.rand((n, 1), generator=self.random) * self.ranges.elastic
        # The grid is linear in all that is random: one matrix product makes it.
        coefficients = torch.cat((inverse, shift, noise * amount), 1).view(n // TOGETHER, TOGETHER, -1)
        grid = self.basis @ coefficients.mT
        return grid.add_((SIDE - 1) / 2).unflatten(1, (2, PIXELS)).unbind(1)

    def _columns(self, index: torch.Tensor) -> torch.Tensor:
        """The images at `index` (B,) as columns: (784, B), 0 to 255."""
        columns = torch.empty(PIXELS, len(index), dtype=torch.bfloat16)
        return columns.copy_(self.images.index_select(0, index).t())


def _sampled(columns: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The columns (784, B) of TOGETHER groups, each pixel the sum of four `rows` of its group by their `weights`."""
    # a weighted sum of rows is what embedding bags are, with all their speed
    ink = F.embedding_bag(rows, columns.view(PIXELS * TOGETHER, -1), mode="sum", per_sample_weights=weights)
    return ink.view(columns.shape)


def _penned(ink: torch.Tensor, amount: torch.Tensor, felt: torch.Tensor) -> torch.Tensor:
    """Another pen's line (784, B), a little thinner in half of the groups and wider in the others, and widened by
    `felt` pixels on both sides; in `ink` itself. Both amounts are (TOGETHER,)."""
    fields = ink.view(SIDE, SIDE, TOGETHER, -1)
    half = TOGETHER // 2
    for line, pen, extreme in (
        (fields[:, :, :half], amount[:half], torch.minimum),
        (fields[:, :, half:], amount[half:], torch.maximum),
    ):
        # each group by a number of its own: numbers in a tensor take several times as long
        for own, spread, share in zip(line.unbind(2), _spread(line, extreme).unbind(2), pen.tolist(), strict=True):
            own.lerp_(spread, share)
    _felted(fields, felt)
    _bits(ink).clamp_(max=_FULL)
    return ink


def _felted(fields: torch.Tensor, felt: torch.Tensor) -> None:
    """Widens the lines (28, 28, groups, size) by `felt` (groups,) pixels on both sides: most groups need nothing."""
    for group in felt.nonzero()[:, 0].tolist():
        line, left = fields[:, :, group], float(felt[group])
        while left > 0:
            line.lerp_(_spread(line, torch.maximum), min(left, 1.0))
            left -= 1


def _spread(ink: torch.Tensor, extreme: Callable) -> torch.Tensor:
    """The greatest or least value, as `extreme` says, among each pixel (28, 28, ...) and its eight neighbours."""
    ink = _bits(ink)
    rows, both = torch.empty_like(ink), torch.empty_like(ink)
    extreme(ink[1:], ink[:-1], out=rows[:-1])
    rows[-1] = ink[-1]
    extreme(rows[1:], ink[:-1], out=rows[1:])
    extreme(rows[:, 1:], rows[:, :-1], out=both[:, :-1])
    both[:, -1] = rows[:, -1]
    extreme(both[:, 1:], rows[:, :-1], out=both[:, 1:])
    return both.view(torch.bfloat16)


def _bits(ink: torch.Tensor) -> torch.Tensor:
    """Numbers from 0 up have the order of their bits read as integers, which are compared faster."""
    return ink.view(torch.int16)


def support_function(images: torch.Tensor) -> torch.Tensor:
    """How far the ink of each image reaches from the centre in each of 64 directions: float32 (N, 64), pixels."""
    # from straight up to straight down the ink at the right of each row reaches farthest, else that at its left
    angle = (torch.arange(DIRECTIONS // 2) - DIRECTIONS // 4) * (2 * math.pi / DIRECTIONS)
    cos, sin = torch.cos(angle), torch.sin(angle)
    column = torch.arange(SIDE, dtype=torch.int16)
    y = (torch.arange(SIDE) - (SIDE - 1) / 2)[:, None] * sin
    support = torch.empty(len(images), DIRECTIONS)
    for start in range(0, len(images), 1024):
        inked = (images[start : start + 1024] > 64).to(torch.int16)
        empty = torch.where(inked.any(2), 0, -torch.inf)[:, :, None]
        right = (inked * (column + 1) - 1).amax(2)[:, :, None] - (SIDE - 1) / 2
        left = (SIDE - 1) / 2 - (inked * (SIDE - column) - 1).amax(2)[:, :, None]
        reaches = (right * cos + y + empty).amax(1), (empty - left * cos - y).amax(1)
        # half a pixel more: the extent ends at the pixel's edge, not at its centre
        support[start : start + 1024] = (torch.cat(reaches, 1).roll(-DIRECTIONS // 4, 1) + 0.5).clamp(min=0.5)
    return support


def _grid_basis() -> torch.Tensor:
    """What each coefficient of a sampling grid adds to it, (2 * 28 * 28, 4 + 2 + 98): those of the linear map row by
    row, the shift in x and y, the control points' displacements in x, then in y; all in pixels."""
    along = torch.arange(SIDE) - (SIDE - 1) / 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    smooth = _smoothing()
    bumps = torch.einsum("ia,jb->abij", smooth, smooth).flatten(0, 1)
    one_axis = torch.cat((torch.stack((x, y, torch.ones_like(x))), bumps))
    nothing = torch.zeros_like(one_axis)
    in_x, in_y = torch.stack((one_axis, nothing), 1), torch.stack((nothing, one_axis), 1)
    return torch.cat((in_x[:2], in_y[:2], in_x[2:3], in_y[2:3], in_x[3:], in_y[3:])).flatten(1).t().contiguous()


def _smoothing() -> torch.Tensor:
    """Gaussian interpolation from the control points to the 28 pixels of one axis: (28, 7)."""
    centres = torch.linspace(0, SIDE - 1, CONTROL_POINTS)
    spacing = (SIDE - 1) / (CONTROL_POINTS - 1)
    weights = torch.exp(-0.5 * ((torch.arange(SIDE)[:, None] - centres) / (0.8 * spacing)) ** 2)
    return weights / weights.square().sum(1, keepdim=True).sqrt()
