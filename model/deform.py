"""Random deformations of digit images during training: the same digit as other hands would have written it.

Every deformed digit is again what MNIST's own making would have produced: its ink fills a 20-pixel box and its
centre of mass stays at the centre of the field. So the network never sees in training what `picture.py` would not
hand it in service. Affine maps and elastic fields follow Simard, Steinkraus and Platt, "Best practices for
convolutional neural networks applied to visual document analysis" (2003).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

SIDE = 28
BOX = 20
DIRECTIONS = 64
CONTROL_POINTS = 7
FELT_SHARE = 0.15  # how many digits are written with a felt pen


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
        self.images = images
        self.ranges = ranges or Ranges()
        self.random = torch.Generator().manual_seed(seed)
        self.support = support_function(images)
        self.basis = _grid_basis()

    def batch(self, index: torch.Tensor) -> torch.Tensor:
        """The digits at `index` (int64, B), deformed: float32 (B, 784), 0 to 1."""
        ink = self.images[index].unsqueeze(1).to(torch.float32).div_(255)
        felt = self._felt(len(index))
        grid = self._sampling_grid(self._linear_maps(index, felt))
        ink = F.grid_sample(ink, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return self._faded(_felted(self._penned(ink.squeeze(1)), felt)).flatten(1)

    def _uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.random) * 2 - 1

    def _felt(self, count: int) -> torch.Tensor:
        """By how many pixels each line is to be wider on both sides: (B,), most of them 0."""
        chosen = torch.rand(count, generator=self.random) < FELT_SHARE
        return chosen * torch.rand(count, generator=self.random) * self.ranges.felt

    def _linear_maps(self, index: torch.Tensor, felt: torch.Tensor) -> torch.Tensor:
        """Rotation, shear and stretch, scaled so that the mapped ink fills the box: (B, 2, 2)."""
        s, n = self.ranges, len(index)
        angle, shear = self._uniform(n) * s.rotation, self._uniform(n) * s.shear
        ratio = torch.exp(self._uniform(n) * s.stretch / 2)
        cos, sin = torch.cos(angle), torch.sin(angle)
        maps = torch.stack(
            (cos * ratio, (cos * shear - sin) / ratio, sin * ratio, (sin * shear + cos) / ratio), 1
        ).view(n, 2, 2)
        extent = torch.maximum(self._extent(index, maps[:, 0]), self._extent(index, maps[:, 1]))
        fit = (BOX * (1 + self._uniform(n) * s.size) - 2 * felt) / extent.clamp(min=1)
        return maps * fit[:, None, None]

    def _extent(self, index: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """The width in pixels of the mapped ink along the axis whose row of the map is given (B, 2): (B,)."""
        length = row.norm(dim=1)
        turn = torch.atan2(row[:, 1], row[:, 0]) * (DIRECTIONS / (2 * math.pi))
        direction = turn.round().long() % DIRECTIONS
        opposite = (direction + DIRECTIONS // 2) % DIRECTIONS
        return length * (self.support[index, direction] + self.support[index, opposite])

    def _sampling_grid(self, maps: torch.Tensor) -> torch.Tensor:
        """Where each output pixel takes its ink from, in grid_sample's coordinates: (B, 28, 28, 2)."""
        n = len(maps)
        a, b, c, d = maps.flatten(1).unbind(1)
        inverse = torch.stack((d, -b, -c, a), 1) / (a * d - b * c)[:, None]
        shift = self._uniform(n, 2) * (self.ranges.shift * 2 / SIDE)
        noise = torch.randn((n, 2 * CONTROL_POINTS**2), generator=self.random)
        amount = torch.rand((n, 1), generator=self.random) * (self.ranges.elastic * 2 / SIDE)
        # The grid is linear in all that is random: one matrix product makes it.
        return (torch.cat((inverse, shift, noise * amount), 1) @ self.basis).view(n, SIDE, SIDE, 2)

    def _penned(self, ink: torch.Tensor) -> torch.Tensor:
        """Another pen's line, a little wider or thinner."""
        n = len(ink)
        amount = self._uniform(n, 1, 1) * self.ranges.thickness
        # thinner ink is wider paper: turned over, widened and turned back
        side = 1.0 - 2.0 * (amount < 0)
        ink.mul_(side)
        return ink.lerp_(_widened(ink), amount.abs()).mul_(side)

    def _faded(self, ink: torch.Tensor) -> torch.Tensor:
        """More or less ink."""
        s = self.ranges
        gain = torch.exp(torch.rand((len(ink), 1, 1), generator=self.random) * (s.gain + s.fade) - s.fade)
        return ink.mul_(gain).clamp_(0, 1)


def _felted(ink: torch.Tensor, felt: torch.Tensor) -> torch.Tensor:
    """Each line (B, 28, 28) widened by `felt` (B,) pixels on both sides, in `ink` itself: most need nothing."""
    chosen = felt.nonzero()[:, 0]
    line, left = ink[chosen], felt[chosen, None, None]
    while len(chosen) and left.max() > 0:
        line = torch.lerp(line, _widened(line), left.clamp(0, 1))
        left = left - 1
    ink[chosen] = line
    return ink


def _widened(ink: torch.Tensor) -> torch.Tensor:
    """The greatest value among each pixel and its eight neighbours: (B, 28, 28)."""
    rows = ink.clone()
    torch.maximum(rows[:, 1:], ink[:, :-1], out=rows[:, 1:])
    torch.maximum(rows[:, :-1], ink[:, 1:], out=rows[:, :-1])
    both = rows.clone()
    torch.maximum(both[:, :, 1:], rows[:, :, :-1], out=both[:, :, 1:])
    torch.maximum(both[:, :, :-1], rows[:, :, 1:], out=both[:, :, :-1])
    return both


def support_function(images: torch.Tensor) -> torch.Tensor:
    """How far the ink of each image reaches from the centre in each of 64 directions: float32 (N, 64), pixels."""
    angle = torch.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)
    column = torch.arange(SIDE, dtype=torch.int16)
    y = torch.arange(SIDE) - (SIDE - 1) / 2
    support = torch.empty(len(images), DIRECTIONS)
    for start in range(0, len(images), 1024):
        inked = (images[start : start + 1024] > 64).to(torch.int16)
        # the outermost ink in any direction is the first or the last of its row
        reaches = []
        for outermost in (SIDE - 1 - (inked * (SIDE - column) - 1).amax(2), (inked * (column + 1) - 1).amax(2)):
            x = outermost - (SIDE - 1) / 2
            reach = x[:, :, None] * torch.cos(angle) + (y[:, None] * torch.sin(angle))
            reaches.append(torch.where(inked.any(2)[:, :, None], reach, -torch.inf).amax(1))
        # half a pixel more: the extent ends at the pixel's edge, not at its centre
        support[start : start + 1024] = (torch.maximum(*reaches) + 0.5).clamp(min=0.5)
    return support


def _grid_basis() -> torch.Tensor:
    """What each coefficient of a sampling grid adds to it, (4 + 2 + 98, 28 * 28 * 2): those of the linear map row by
    row, the shift in x and y, the control points' displacements in x, then in y."""
    along = (torch.arange(SIDE) * 2 + 1) / SIDE - 1
    y, x = torch.meshgrid(along, along, indexing="ij")
    smooth = _smoothing()
    bumps = torch.einsum("ia,jb->abij", smooth, smooth).flatten(0, 1)
    one_axis = torch.cat((torch.stack((x, y, torch.ones_like(x))), bumps))
    nothing = torch.zeros_like(one_axis)
    in_x, in_y = torch.stack((one_axis, nothing), 3), torch.stack((nothing, one_axis), 3)
    return torch.cat((in_x[:2], in_y[:2], in_x[2:3], in_y[2:3], in_x[3:], in_y[3:])).flatten(1)


def _smoothing() -> torch.Tensor:
    """Gaussian interpolation from the control points to the 28 pixels of one axis: (28, 7)."""
    centres = torch.linspace(0, SIDE - 1, CONTROL_POINTS)
    spacing = (SIDE - 1) / (CONTROL_POINTS - 1)
    weights = torch.exp(-0.5 * ((torch.arange(SIDE)[:, None] - centres) / (0.8 * spacing)) ** 2)
    return weights / weights.square().sum(1, keepdim=True).sqrt()
