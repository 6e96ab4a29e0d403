"""Rasterize lines to digit images as `model.imaging.normalise` would make them, a batch at once.

A line is given as points at most a pixel apart, half the width of a usual pen; further apart, discs would show. A
pixel's ink falls linearly from 1 to 0 across the pen's edge, by its distance to the nearest point.
"""

from __future__ import annotations

import functools
import math

import torch

from model.task import BOX, PIXELS, SIDE

CENTRE = SIDE / 2
CHUNK = 32  # pictures at a time
POINTS = 48  # points at a time: the distances of CHUNK pictures then stay in the processor's cache


def draw(points: torch.Tensor, width: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
    """Draw lines as digit images, uint8 (N, 28, 28), ink bright on black.

    `points` float32 (N, P, 2) of (x, y) in any units, a shorter line repeating its last point; `width` (N,) of the pen
    in pixels, below 20; `edge` (N,) the pixels over which ink fades. Scale the ink, pen included, into the 20-pixel
    box, aspect kept, and place the line's centre of mass on the centre of the field.
    """
    lengths = _lengths(points)
    points = _fit(points, lengths, width)
    images = torch.empty(len(points), SIDE, SIDE, dtype=torch.uint8)
    # Lines of about equal length together. A stable order, since the last bit depends on the rest of the chunk.
    for part in lengths.argsort(stable=True).split(CHUNK) if len(points) else ():
        longest = int(lengths[part].amax())
        images[part] = _draw_ink(points[part, :longest], width[part], edge[part])
    return images


def _lengths(points: torch.Tensor) -> torch.Tensor:
    """Return the number of points of each line without the repetitions of its last one: int64 (N,)."""
    moving = (points[:, 1:] != points[:, :-1]).any(2)
    return 1 + (moving * torch.arange(1, points.shape[1])).amax(1)


def _fit(points: torch.Tensor, lengths: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    low, high = points.amin(1), points.amax(1)
    scale = (BOX - width) / (high - low).amax(1).clamp(min=1e-3)
    points = points * scale[:, None, None]
    # Approximates the centre of mass where lines cross or steps differ, within MNIST's own rounding.
    own = torch.arange(points.shape[1]) < lengths[:, None]
    centre = (points * own[:, :, None]).sum(1) / lengths[:, None]
    half = (width / 2)[:, None]
    shift = CENTRE - centre
    shift = shift.clamp(min=half - points.amin(1) - 0.5, max=SIDE - 0.5 - half - points.amax(1))
    return points + shift[:, None, :]


def _draw_ink(points: torch.Tensor, width: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
    # |p - q|^2 = |p|^2 - 2 p q + |q|^2: one matrix product for all pixels p and points q
    points = torch.cat((points, points.square().sum(2, keepdim=True)), 2).permute(2, 1, 0)
    parts = points.tensor_split(math.ceil(points.shape[1] / POINTS), 1)
    nearest = functools.reduce(torch.minimum, map(_nearest, parts))
    distance = (nearest + _PIXELS.square().sum(1, keepdim=True)).clamp_(min=0).sqrt_()
    ink = 0.5 + (width / 2 - distance) / edge
    return ink.clamp_(0, 1).mul_(255).round_().to(torch.uint8).t().reshape(-1, SIDE, SIDE)


def _nearest(points: torch.Tensor) -> torch.Tensor:
    """Return |q|^2 - 2 p q of each pixel p and its nearest point q: (784, N), for points (x, y, |q|^2) as (3, P, N)."""
    # pictures on the last axis, so that minima are vectorised over them
    return (_PIXELS_AND_ONE @ points.flatten(1)).view(-1, *points.shape[1:]).amin(1)


_PIXELS = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="xy"), 2)
_PIXELS = _PIXELS.view(-1, 2).to(torch.float32)
"""Centres of the pixels, (784, 2) of (x, y)."""
_PIXELS_AND_ONE = torch.cat((-2 * _PIXELS, torch.ones(PIXELS, 1)), 1)
