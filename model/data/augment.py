"""Augmentation of digit images in training by random deformations and pens.

Every deformed digit is normalised as MNIST's: its ink fills a 20-pixel box and its centre of mass stays at the centre
of the field, as `model.imaging.normalise` makes pictures in service. Affine maps and elastic fields follow Simard,
Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document analysis" (2003).

Tensors are (pixels, pictures). A few dozen pictures share a deformation, another one in each epoch: computing
deformations then costs little, and pictures are sampled as whole rows. bfloat16 is as precise as a byte and half as
much to move as float32.
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
WIDENED_SHARE = 0.15  # share of the digits that get a wider line (`Ranges.felt`)
GROUP_SIZE = 64  # digits that share a deformation
GROUPS_PER_MAP = 4  # groups that share rotation, shear and stretch, and differ in the other parameters
GROUPS_AT_ONCE = 8  # groups sampled at once, so that they stay in the processor's cache
_NEXT = torch.tensor((0, 1, SIDE, SIDE + 1), dtype=torch.int32) * GROUPS_AT_ONCE
_FULL = int(torch.ones((), dtype=torch.bfloat16).view(torch.int16))


@dataclass(frozen=True)
class Ranges:
    """Ranges of the deformations: half-widths of uniform distributions unless the comment says otherwise."""

    rotation: float = math.radians(15)
    shear: float = 0.3
    stretch: float = 0.25  # log of the ratio of width to height
    size: float = 0.06  # relative to the 20-pixel box
    shift: float = 1.0  # pixels
    elastic: float = 1.0  # pixels: the greatest standard deviation of the control points' displacements
    thickness: float = 0.7  # greatest blend with the ink widened or thinned by one pixel on each side
    fade: float = 0.15  # negative log of the least factor on the ink
    gain: float = 0.5  # log of the greatest factor on the ink, clipped at full ink
    widening: float = 1.6  # pixels: greatest widening of the line on each side


class Deformer:
    """Deforms batches of digit images, uint8 (N, 28, 28); equal seeds give equal sequences.

    The bounding box of mapped ink follows from the ink's support function (its farthest extent in each direction),
    which is computed once per image instead of measuring every deformed picture.
    """

    def __init__(self, images: torch.Tensor, seed: int, ranges: Ranges | None = None):
        self.images = images.flatten(1)
        self.ranges = ranges or Ranges()
        self.random = torch.Generator().manual_seed(seed)
        self.support = support_function(images)
        self.basis = _grid_basis()

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Deform the digits at `index` (int64, B); return them, bfloat16 (784, B), 0 to 1, and their index.

        The digits are in another order than in `index`: the index returned is in theirs.
        """
        parts = math.ceil(len(index) / (GROUP_SIZE * GROUPS_AT_ONCE))
        maps = self._linear_maps(GROUPS_AT_ONCE // GROUPS_PER_MAP * parts)
        order, extent = self._group_by_extent(index, maps)
        groups = len(extent)
        widening = self._random_widening(groups)
        fit = (BOX * (1 + self._uniform(groups) * self.ranges.size) - 2 * widening) / extent
        rows, weights = self._sampling_weights(maps.repeat_interleave(GROUPS_PER_MAP, 0) * fit[:, None, None])
        amount = torch.rand(groups, generator=self.random) * self.ranges.thickness
        ink = []
        for part, shown in enumerate(order.chunk(len(rows))):
            sampled = _sample(self._as_columns(shown), rows[part], weights[part])
            own = slice(part * GROUPS_AT_ONCE, (part + 1) * GROUPS_AT_ONCE)
            ink.append(_change_width(sampled, amount[own], widening[own]))
        return torch.cat(ink, 1)[:, : len(index)], order[: len(index)]

    def _uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.random) * 2 - 1

    def _random_widening(self, count: int) -> torch.Tensor:
        """Return by how many pixels to widen each group's lines on each side: (count,), most of them 0."""
        chosen = torch.rand(count, generator=self.random) < WIDENED_SHARE
        return chosen * torch.rand(count, generator=self.random) * self.ranges.widening

    def _linear_maps(self, n: int) -> torch.Tensor:
        """Return random maps of rotation, shear and stretch: (n, 2, 2)."""
        s = self.ranges
        angle, shear = self._uniform(n) * s.rotation, self._uniform(n) * s.shear
        ratio = torch.exp(self._uniform(n) * s.stretch / 2)
        cos, sin = torch.cos(angle), torch.sin(angle)
        return torch.stack(
            (cos * ratio, (cos * shear - sin) / ratio, sin * ratio, (sin * shear + cos) / ratio), 1
        ).view(n, 2, 2)

    def _group_by_extent(self, index: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sort digits into groups that their map makes about equally large, GROUPS_PER_MAP of them for each.

        Return the index in its new order, its last ones repeated so that all groups have one size, and the median
        extent of each group in pixels: (groups,).
        """
        count, size = len(index), math.ceil(len(index) / len(maps) / GROUPS_PER_MAP)
        full = torch.arange(len(maps) * GROUPS_PER_MAP * size).clamp_(max=count - 1)
        index = index[full].view(len(maps), -1)
        extent = torch.maximum(self._extent(index, maps[:, 0]), self._extent(index, maps[:, 1])).clamp_(min=1)
        extent.view(-1)[count:] = torch.inf  # repeated ones come last, where they are cut off
        extent, order = extent.sort(stable=True)
        extent = extent.view(-1, size)
        middle = extent.where(extent.isfinite(), torch.nan).nanmedian(1).values.nan_to_num(BOX)
        return index.gather(1, order).flatten(), middle

    def _extent(self, index: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Return the extent in pixels, (M, B), of the mapped ink of digits (M, B) along one axis, given that axis's row
        (M, 2) of each map."""
        turn = torch.atan2(row[:, 1], row[:, 0]) * (DIRECTIONS / (2 * math.pi))
        direction = (turn.round().long() % DIRECTIONS)[:, None]
        opposite = (direction + DIRECTIONS // 2) % DIRECTIONS
        reach = self.support.view(-1)
        first = index * DIRECTIONS
        return row.norm(dim=1)[:, None] * (reach.take(first + direction) + reach.take(first + opposite))

    def _sampling_weights(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the four source pixels of each pixel of each group and their bilinear weights, random gain included:
        int32 row numbers and bfloat16, each (784 * groups, 4) for every GROUPS_AT_ONCE."""
        s = self.ranges
        gain = torch.exp(torch.rand(len(maps), generator=self.random) * (s.gain + s.fade) - s.fade)
        x, y = self._sampling_grid(maps)
        inside = (x > -0.5) & (x < SIDE - 0.5) & (y > -0.5) & (y < SIDE - 0.5)
        x, y = x.clamp(0, SIDE - 1.001), y.clamp(0, SIDE - 1.001)
        left, top = x.int(), y.int()
        right, below = x - left, y - top
        ink = inside * (gain.view(-1, 1, GROUPS_AT_ONCE) / 255)
        lower = below * ink
        upper = ink - lower
        weights = torch.stack((upper - upper * right, upper * right, lower - lower * right, lower * right), 3)
        group = torch.arange(GROUPS_AT_ONCE, dtype=torch.int32)
        rows = ((top * SIDE + left) * GROUPS_AT_ONCE + group)[..., None] + _NEXT
        return rows.flatten(1, 2), weights.bfloat16().flatten(1, 2)

    def _sampling_grid(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the source position of each output pixel, in pixels from the first one's centre: x and y, each
        (parts, 784, GROUPS_AT_ONCE)."""
        n = len(maps)
        a, b, c, d = maps.flatten(1).unbind(1)
        inverse = torch.stack((d, -b, -c, a), 1) / (a * d - b * c)[:, None]
        shift = self._uniform(n, 2) * self.ranges.shift
        noise = torch.randn((n, 2 * CONTROL_POINTS**2), generator=self.random)
        amount = torch.rand((n, 1), generator=self.random) * self.ranges.elastic
        # The grid is linear in the random parameters: one matrix product computes it.
        coefficients = torch.cat((inverse, shift, noise * amount), 1).view(n // GROUPS_AT_ONCE, GROUPS_AT_ONCE, -1)
        grid = self.basis @ coefficients.mT
        return grid.add_((SIDE - 1) / 2).unflatten(1, (2, PIXELS)).unbind(1)

    def _as_columns(self, index: torch.Tensor) -> torch.Tensor:
        """Return the images at `index` (B,) as columns: bfloat16 (784, B), 0 to 255."""
        columns = torch.empty(PIXELS, len(index), dtype=torch.bfloat16)
        return columns.copy_(self.images.index_select(0, index).t())


def _sample(columns: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sample the columns (784, B) of GROUPS_AT_ONCE: each pixel is the sum of four `rows` by their `weights`."""
    # an embedding bag is a weighted sum of rows, and fast
    ink = F.embedding_bag(rows, columns.view(PIXELS * GROUPS_AT_ONCE, -1), mode="sum", per_sample_weights=weights)
    return ink.view(columns.shape)


def _change_width(ink: torch.Tensor, amount: torch.Tensor, widening: torch.Tensor) -> torch.Tensor:
    """Change the lines' width in place: thin half of the groups of `ink` (784, B) by `amount`, widen the others by it,
    then widen all by `widening` pixels on each side. Both are (GROUPS_AT_ONCE,)."""
    fields = ink.view(SIDE, SIDE, GROUPS_AT_ONCE, -1)
    half = GROUPS_AT_ONCE // 2
    for line, pen, extreme in (
        (fields[:, :, :half], amount[:half], torch.minimum),
        (fields[:, :, half:], amount[half:], torch.maximum),
    ):
        # one call with a number per group: a tensor of numbers takes several times as long
        for own, spread, share in zip(line.unbind(2), _spread(line, extreme).unbind(2), pen.tolist(), strict=True):
            own.lerp_(spread, share)
    _widen(fields, widening)
    _as_integers(ink).clamp_(max=_FULL)
    return ink


def _widen(fields: torch.Tensor, widening: torch.Tensor) -> None:
    """Widen the lines (28, 28, groups, size) in place by `widening` (groups,) pixels on each side."""
    for group in widening.nonzero()[:, 0].tolist():
        line, left = fields[:, :, group], float(widening[group])
        while left > 0:
            line.lerp_(_spread(line, torch.maximum), min(left, 1.0))
            left -= 1


def _spread(ink: torch.Tensor, extreme: Callable) -> torch.Tensor:
    """Return the maximum or minimum, by `extreme`, of each pixel (28, 28, ...) and its eight neighbours."""
    ink = _as_integers(ink)
    rows, both = torch.empty_like(ink), torch.empty_like(ink)
    extreme(ink[1:], ink[:-1], out=rows[:-1])
    rows[-1] = ink[-1]
    extreme(rows[1:], ink[:-1], out=rows[1:])
    extreme(rows[:, 1:], rows[:, :-1], out=both[:, :-1])
    both[:, -1] = rows[:, -1]
    extreme(both[:, 1:], rows[:, :-1], out=both[:, 1:])
    return both.view(torch.bfloat16)


def _as_integers(ink: torch.Tensor) -> torch.Tensor:
    """View bfloat16 as int16: non-negative numbers keep their order, and integers are compared faster."""
    return ink.view(torch.int16)


def support_function(images: torch.Tensor) -> torch.Tensor:
    """Return how far the ink of each image reaches from the centre in 64 directions: float32 (N, 64), pixels."""
    # in the directions to the right, the rightmost ink of each row reaches farthest; to the left, the leftmost
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
        # plus half a pixel: the ink ends at the pixel's edge, not at its centre
        support[start : start + 1024] = (torch.cat(reaches, 1).roll(-DIRECTIONS // 4, 1) + 0.5).clamp(min=0.5)
    return support


def _grid_basis() -> torch.Tensor:
    """Return the basis of sampling grids in pixels, (2 * 28 * 28, 4 + 2 + 98): the linear map row by row, the shift in
    x and y, the control points' displacements in x, then in y."""
    along = torch.arange(SIDE) - (SIDE - 1) / 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    smooth = _smoothing()
    bumps = torch.einsum("ia,jb->abij", smooth, smooth).flatten(0, 1)
    one_axis = torch.cat((torch.stack((x, y, torch.ones_like(x))), bumps))
    nothing = torch.zeros_like(one_axis)
    in_x, in_y = torch.stack((one_axis, nothing), 1), torch.stack((nothing, one_axis), 1)
    return torch.cat((in_x[:2], in_y[:2], in_x[2:3], in_y[2:3], in_x[3:], in_y[3:])).flatten(1).t().contiguous()


def _smoothing() -> torch.Tensor:
    """Return Gaussian interpolation weights from the control points to the 28 pixels of one axis: (28, 7)."""
    centres = torch.linspace(0, SIDE - 1, CONTROL_POINTS)
    spacing = (SIDE - 1) / (CONTROL_POINTS - 1)
    weights = torch.exp(-0.5 * ((torch.arange(SIDE)[:, None] - centres) / (0.8 * spacing)) ** 2)
    return weights / weights.square().sum(1, keepdim=True).sqrt()
