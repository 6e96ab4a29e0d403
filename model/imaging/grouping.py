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
    like = (found.strength > 0.45 * found.strength[main]) & (found.line < 2.2 * found.line[main] + 2)
    like &= (found.line > 0.4 * found.line[main] - 1) & ~_frames(found) & (found.outlined > 0.4)
    like &= ~_underlines(found, main)
    tall = found.height / found.height[main]
    similar = like & ((tall > 0.75) | (tall > 0.5) & ~found.at_edge)
    # Another stroke of the same pen, such as a sign before or behind a digit: without it a sum would be a digit.
    alike = (found.line > 0.6 * found.line[main]) & (found.strength > 0.7 * found.strength[main])
    beside = _common_rows(found, main) > 0.5 * found.height
    similar |= like & alike & beside & (size > 0.3 * size[main]) & ~found.at_edge
    similar[main] = True
    kept = np.concatenate(([False], similar))[found.labels]
    # Parts of a broken digit, or a bar of its own, lie near a stroke.
    distance = cv2.distanceTransform((~kept).astype(np.uint8), cv2.DIST_L2, 3)
    near = _present(found, distance < 0.15 * size[main] + found.line[main])
    part = like & near & (size > 1.2 * found.line[main]) & ~(found.at_edge & (size < 0.4 * size[main]))
    part |= like & _present(found, distance < 1.5 * found.line[main]) & (found.area > 0.5 * found.line[main] ** 2)
    return 1 + np.flatnonzero(similar | part)


def _common_rows(found: Components, main: int) -> np.ndarray:
    """Return how many rows of pixels each component shares with the main one."""
    bottom = found.top + found.height
    return np.minimum(bottom, bottom[main]) - np.maximum(found.top, found.top[main])


def _underlines(found: Components, main: int) -> np.ndarray:
    """Return which components are straight lines below the main component, wider than it and near the lower edge.

    A bar that is a digit's own, such as that of a five, is no wider than the digit.
    """
    bottom, main_bottom = found.top + found.height, found.top[main] + found.height[main]
    flat = (found.height < 2.5 * found.line + 3) & (found.width > 6 * found.line)
    apart = found.top > main_bottom + 0.08 * found.height[main]
    return flat & apart & (found.width > 1.2 * found.width[main]) & (bottom > 0.85 * found.labels.shape[0])


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
