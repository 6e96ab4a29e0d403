"""Choose the components of ink that are the writing."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Largest components that are looked at as frames: each is compared with all, and a texture has tens of thousands.
MOST_FRAMES = 40
# Least difference between neighbours at the outline of ink, of the ink's contrast.
SHARP = 0.15
# Differences that the grain of a photo makes.
GRAIN = 0.035

# What belongs to the writing, measured against its main component. Contrast, width of the line (a pen pressed harder
# is up to twice as wide) and share of its outline that is sharp:
LEAST_STRENGTH, MOST_LINE, LEAST_LINE, LEAST_OUTLINED = 0.45, 2.2, 0.4, 0.4
# The same pen, as for the strokes of one number:
ALIKE_STRENGTH, ALIKE_LINE = 0.7, 0.6
# Heights of another digit, and of one that is certainly not a neighbour's piece at the edge:
SMALL_DIGIT, DIGIT = 0.5, 0.75
# Size of a sign beside the digits, at least half of whose height is in their rows:
SIGN, SIGN_ROWS = 0.3, 0.5
# How near to a stroke, in parts of the main component's size and widths of its line, and how large, in widths of the
# line, is a part of a digit; a speck of ink beside a stroke may be smaller:
NEAR, PART, TOUCHING, SPECK = 0.15, 1.2, 1.5, 0.5
# A smaller part at the edge is the neighbour's:
EDGE_PART = 0.4
# An underline is a flat stroke: at most so high and at least so wide, in widths of its line; wider than the digit or
# almost as wide as the picture; and near its lower edge.
FLAT, LONG, WIDER, ALMOST_ACROSS, LOW = 2.5, 6, 1.2, 0.8, 0.85
# Share of an edge of the picture that a strip fills.
FILLED = 0.9


@dataclass(frozen=True)
class Components:
    """Connected components of ink; index 0 of each array is the first component, whose label is 1."""

    contrast: np.ndarray  # of every pixel
    labels: np.ndarray
    area: np.ndarray
    left: np.ndarray
    top: np.ndarray
    width: np.ndarray
    height: np.ndarray
    line: np.ndarray  # mean width of the line, in pixels
    broad: np.ndarray  # the same where wide parts count as their area does
    strength: np.ndarray  # mean contrast
    outlined: np.ndarray  # share of the outline where the picture changes sharply
    at_edge: np.ndarray

    @property
    def size(self) -> np.ndarray:
        return np.maximum(self.width, self.height)


def components(mask: np.ndarray, contrast: np.ndarray, edges: np.ndarray) -> Components:
    """Measure the connected components of ink, bool (H, W), in a picture with these differences between neighbours."""
    ink = mask.astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    inked = labels[mask]
    area = np.bincount(inked, minlength=count)[1:]
    # In a line of width w the distance to its edge has the mean w / 4 and the mean square w * w / 12.
    inside = cv2.distanceTransform(np.pad(ink, 1), cv2.DIST_L2, 3)[1:-1, 1:-1][mask]
    distance = np.bincount(inked, inside, count)[1:]
    line = 4 * distance / area - 1
    broad = 3 * np.bincount(inked, inside * inside, count)[1:] / distance
    strength = np.bincount(inked, contrast[mask], count)[1:] / area
    outline = inside < 1.5
    sharp = edges[mask][outline] > np.maximum(SHARP * np.concatenate(([0], strength)), GRAIN)[inked[outline]]
    length = np.bincount(inked[outline], minlength=count)[1:]
    outlined = np.bincount(inked[outline], sharp, count)[1:] / np.maximum(length, 1)
    left, top, width, height = stats[1:, :4].T
    at_edge = (left == 0) | (top == 0) | (left + width == mask.shape[1]) | (top + height == mask.shape[0])
    return Components(contrast, labels, area, left, top, width, height, line, broad, strength, outlined, at_edge)


def main_component(found: Components) -> tuple[int, float]:
    """Return the index of the component that is most likely writing, and how likely."""
    height, width = found.labels.shape
    x, y = (found.left + found.width / 2) / width - 0.5, (found.top + found.height / 2) / height - 0.5
    central = 1 - np.hypot(x, y)
    size = np.maximum(found.height, 0.6 * found.width)
    # Writing is long and thin, and sharp all along its outline.
    score = size * central * np.sqrt(found.strength * found.size / found.broad) * found.outlined**6
    score *= np.where(found.at_edge, 0.4, 1) * ~_frames(found)
    return int(score.argmax()), float(score.max()) / max(height, width)


def choose(found: Components, main: int) -> np.ndarray:
    """Return the labels of the components that are the writing: the main one, its parts, and digits of its size."""
    if len(found.area) == 1:
        return np.array([1])
    size = found.size
    strength, line = found.strength / found.strength[main], found.line[main]
    like = (strength > LEAST_STRENGTH) & (found.outlined > LEAST_OUTLINED) & ~_frames(found)
    like &= (found.line < MOST_LINE * line + 2) & (found.line > LEAST_LINE * line - 1)
    like &= ~_underlines(found, main) & ~_strips(found)
    alike = (found.line > ALIKE_LINE * line) & (strength > ALIKE_STRENGTH)
    # At an edge, what is left of a printed line is thinner than the pen.
    like &= ~found.at_edge | (found.line > ALIKE_LINE * line)
    tall = found.height / found.height[main]
    similar = like & ((tall > DIGIT) | (tall > SMALL_DIGIT) & ~found.at_edge)
    # Another stroke of the same pen, such as a sign before or behind a digit: without it a sum would be a digit.
    beside = _common_rows(found, main) > SIGN_ROWS * found.height
    similar |= like & alike & beside & (size > SIGN * size[main]) & ~found.at_edge
    similar[main] = True
    kept = np.concatenate(([False], similar))[found.labels]
    # Parts of a broken digit, or a bar of its own, lie near a stroke.
    distance = cv2.distanceTransform((~kept).astype(np.uint8), cv2.DIST_L2, 3)
    near = _present(found, distance < NEAR * size[main] + line)
    part = like & near & (size > PART * line) & ~(found.at_edge & (size < EDGE_PART * size[main]))
    part |= like & _present(found, distance < TOUCHING * line) & (found.area > SPECK * line**2)
    return 1 + np.flatnonzero(similar | part)


def _common_rows(found: Components, main: int) -> np.ndarray:
    """Return how many rows of pixels each component shares with the main one."""
    bottom = found.top + found.height
    return np.minimum(bottom, bottom[main]) - np.maximum(found.top, found.top[main])


def _underlines(found: Components, main: int) -> np.ndarray:
    """Return which components are straight lines below the main component, wider than it and near the lower edge.

    A bar that is a digit's own, such as that of a five, is no wider than the digit.
    """
    height, width = found.labels.shape
    bottom, main_bottom = found.top + found.height, found.top[main] + found.height[main]
    flat = (found.height < FLAT * found.line + 3) & (found.width > LONG * found.line)
    wide = (found.width > WIDER * found.width[main]) | (found.width > ALMOST_ACROSS * width)
    return flat & wide & (found.top > main_bottom) & (bottom > LOW * height)


def _strips(found: Components) -> np.ndarray:
    """Return which components fill a whole edge of the picture, as the edge of a table or of a scanned page does."""
    labels, count = found.labels, len(found.area) + 1
    edges = labels[0], labels[-1], labels[:, 0], labels[:, -1]
    return np.any([np.bincount(edge, minlength=count)[1:] > FILLED * len(edge) for edge in edges], axis=0)


def _present(found: Components, where: np.ndarray) -> np.ndarray:
    """Return which components have pixels there."""
    return np.bincount(found.labels[where], minlength=len(found.area) + 1)[1:] > 0


def _frames(found: Components) -> np.ndarray:
    """Return which components are frames: outlines of a box with something in it."""
    frames = np.zeros(len(found.area), bool)
    size = found.size
    right, bottom = found.left + found.width, found.top + found.height
    largest = np.argsort(-size, kind="stable")[:MOST_FRAMES]
    for index in largest[size[largest] > 0.25 * size.max()]:
        y, x = found.height[index] // 8, found.width[index] // 8
        within = (found.left > found.left[index]) & (right < right[index]) & (size > 0.2 * size[index])
        within &= (found.top > found.top[index]) & (bottom < bottom[index])
        if within.any() and x and y:
            part = found.labels[found.top[index] : bottom[index], found.left[index] : right[index]] == index + 1
            frames[index] = part[y:-y, x:-x].sum() < 0.05 * found.area[index]
    return frames
