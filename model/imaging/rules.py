"""Remove printed lines from a mask of ink: rules, grids, boxes of forms, frames and strips at the edge."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Lines are looked for on a mask reduced to this longer side.
SEARCH_SIDE = 320
# Least share of a line's way across the picture that is inked.
COVERAGE = 0.5
# Widest printed line, of the picture's longer side; a digit cropped tightly has wider strokes.
WIDEST = 0.045
# A line reaches an edge when it ends nearer than this, of its way across the picture.
REACHES = 0.04
MOST_LINES = 120
# Least share of a line, from its beginning to its end, that is thin and straight.
STRAIGHT = 0.8
# The sides of a box meet nearer to their ends than this, of their length.
CORNER = 0.07
# So many lines are printed alike: one that is so many times broader than usual is a stroke.
GRID, BROADER = 4, 2
# Contrast of a pen over a line, of the line's.
DARKER = 1.6
# In smaller pictures lines are as wide as strokes.
SMALLEST = 64
# Share of the ink that is left without lines, at least.
LEAST_LEFT = 0.08
# Samples along a line.
STRIP = 400


@dataclass(frozen=True)
class Line:
    """A straight printed line.

    It is measured on a strip that is cut out of the picture along it; `place` maps the strip back. `own` are the pixels
    of the strip that are the line's and no stroke's.
    """

    angle: float
    thickness: float
    through: bool
    start: np.ndarray
    end: np.ndarray
    own: np.ndarray
    place: np.ndarray

    def erase(self, ink: np.ndarray) -> None:
        """Take the line's pixels out of ink, bool (H, W)."""
        height, width = self.own.shape
        corners = self.place @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
        left, top = np.maximum(np.floor(corners.min(axis=1)).astype(int) - 1, 0)
        right, bottom = np.ceil(corners.max(axis=1)).astype(int) + 1
        part = ink[top:bottom, left:right]
        place = self.place - [[0, 0, left], [0, 0, top]]
        own = cv2.warpAffine(self.own.astype(np.uint8), place, part.shape[::-1], flags=cv2.INTER_NEAREST)
        part[own > 0] = False


def remove_lines(mask: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Return ink, bool (H, W), without long straight lines; strokes that cross one are kept whole."""
    if max(mask.shape) < SMALLEST or not _may_have_lines(mask):
        return mask
    lines = [line for candidate in _candidates(mask) if (line := _trace(mask, contrast, *candidate)) is not None]
    lines = _believable(lines)
    if not lines:
        return mask
    left = mask.copy()
    for line in lines:
        line.erase(left)
    # A digit drawn with straight strokes may look like a box; a box has something in it.
    return left if left.sum() > LEAST_LEFT * mask.sum() else mask


def _may_have_lines(mask: np.ndarray) -> bool:
    """Return whether ink comes near two edges of the picture or has something along all sides of its own extent."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return False
    height, width = mask.shape
    near_x, near_y = REACHES * width + 1, REACHES * height + 1
    near = rows[0] <= near_y, rows[-1] >= height - 1 - near_y, columns[0] <= near_x, columns[-1] >= width - 1 - near_x
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    y, x = max(1, part.shape[0] // 12), max(1, part.shape[1] // 12)
    along = part[:y].any(axis=0), part[-y:].any(axis=0), part[:, :x].any(axis=1), part[:, -x:].any(axis=1)
    return sum(near) >= 2 or min(side.mean() for side in along) > COVERAGE


def _candidates(mask: np.ndarray) -> list[tuple[float, float]]:
    """Return rho and theta, in pixels of the mask and radians, of lines that may cross the picture.

    Hough transform (Duda and Hart, 1972) with a threshold on the share of the way across that is inked.
    """
    height, width = mask.shape
    scale = min(1.0, SEARCH_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    reduced = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    small = (reduced > 60).astype(np.uint8)
    # Broad strokes hold lines of any direction.
    widest = 2 * int(WIDEST * max(small.shape) / 2) + 3
    padded = np.pad(small, widest)
    broad = cv2.morphologyEx(padded, cv2.MORPH_OPEN, np.ones((widest, widest), np.uint8))[
        widest:-widest, widest:-widest
    ]
    small[cv2.dilate(broad, np.ones((3, 3), np.uint8)) > 0] = 0
    if small.mean() > 0.5:
        return []
    least = int(COVERAGE * 0.8 * min(small.shape))
    lines = cv2.HoughLinesWithAccumulator(small, 1, np.pi / 360, least)
    found = []
    for rho, theta, votes in [] if lines is None else lines.reshape(-1, 3)[: 6 * MOST_LINES]:
        chord = _chord(float(rho), float(theta), small.shape)
        if chord is None:
            continue
        length = float(np.hypot(*(chord[1] - chord[0])))
        if length > 0.5 * min(small.shape) and votes >= COVERAGE * length * 0.8:
            found.append((float(votes) / length, float(rho) / scale, float(theta)))
    found.sort(reverse=True)
    return _distinct([(rho, theta) for _, rho, theta in found], max(height, width))


def _distinct(lines: list[tuple[float, float]], side: int) -> list[tuple[float, float]]:
    """Return lines without those that lie almost on a better one."""
    kept: list[tuple[float, float]] = []
    for rho, theta in lines:
        for other_rho, other_theta in kept:
            turn = abs(theta - other_theta)
            flipped = turn > np.pi / 2
            apart = abs(rho + other_rho) if flipped else abs(rho - other_rho)
            if min(turn, np.pi - turn) < np.radians(2.5) and apart < 0.012 * side + 2:
                break
        else:
            kept.append((rho, theta))
        if len(kept) >= MOST_LINES:
            break
    return kept


def _chord(rho: float, theta: float, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the two points where a line enters and leaves the picture."""
    height, width = shape[:2]
    normal = np.array([np.cos(theta), np.sin(theta)])
    along = np.array([-normal[1], normal[0]])
    foot = rho * normal
    low, high = -np.inf, np.inf
    for position, step, limit in zip(foot, along, (width - 1, height - 1), strict=True):
        if abs(step) < 1e-9:
            if not -1 <= position <= limit + 1:
                return None
            continue
        ends = sorted(((0 - position) / step, (limit - position) / step))
        low, high = max(low, ends[0]), min(high, ends[1])
    return None if high - low < 2 else (foot + low * along, foot + high * along)


def _trace(mask: np.ndarray, contrast: np.ndarray, rho: float, theta: float) -> Line | None:
    """Follow a line through the mask; None where it is too thick, too short or not there."""
    chord = _chord(rho, theta, mask.shape)
    if chord is None:
        return None
    start, end = chord
    side = max(mask.shape)
    reach = int(max(5, 0.02 * side)) + int(WIDEST * side)
    source = mask.astype(np.uint8)
    strip, place = _cut(source, start, end, reach)
    offsets = _fit(strip, reach)
    if offsets is None:
        return None
    start, end = start + place[:, 1] * offsets[0], end + place[:, 1] * offsets[1]
    strip, place = _cut(source, start, end, reach)
    return _measure(strip > 0, _cut(contrast, start, end, reach)[0], reach, place, theta, side)


def _cut(source: np.ndarray, start: np.ndarray, end: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a strip out of a picture, in which the line is the row `reach`; return it and the map to the picture.

    A long line is sampled along its way; across it, the strip has the picture's resolution.
    """
    way = float(np.hypot(*(end - start)))
    length = int(min(way + 1, STRIP))
    along = (end - start) / max(way, 1e-6)
    normal = np.array([-along[1], along[0]])
    step = along * way / max(length - 1, 1)
    place = np.stack((step, normal, start - normal * reach), axis=1)
    strip = cv2.warpAffine(source, place, (length, 2 * reach + 1), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return strip, place


def _fit(strip: np.ndarray, reach: int) -> tuple[float, float] | None:
    """Fit a straight line to the inked rows nearest the middle of a strip; return its offsets at both ends."""
    near = max(4, reach // 3)
    middle = strip[reach - near : reach + near + 1].astype(np.float32)
    count = min(24, strip.shape[1])
    profiles = cv2.blur(cv2.resize(middle, (count, len(middle)), interpolation=cv2.INTER_AREA), (1, 3))
    rows = np.arange(-near, near + 1)[:, None]
    best = rows[:, 0][(profiles - 0.2 * np.abs(rows) / near).argmax(axis=0)]
    peak = (profiles >= 0.8 * profiles.max(axis=0)) & (np.abs(rows - best) <= near / 2)
    y = (rows * peak).sum(axis=0) / np.maximum(peak.sum(axis=0), 1)
    x = (np.arange(count) + 0.5) / count
    good = profiles.max(axis=0) >= 0.5
    for _ in range(2):  # the second time without what is far from the line, such as strokes beside it
        if good.sum() < 4:
            return None
        slope, level = _straight(x[good], y[good])
        off = np.abs(y - (slope * x + level))
        good &= off <= 1 + np.median(off[good])
    return level, level + slope


def _straight(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope and level at 0 of the least-squares line through points."""
    apart = x - x.mean()
    slope = float(apart @ y / max(apart @ apart, 1e-9))
    return slope, float(y.mean() - slope * x.mean())


def _measure(
    strip: np.ndarray, contrast: np.ndarray, reach: int, place: np.ndarray, theta: float, side: int
) -> Line | None:
    """Measure the line in the middle of its strip; None where it is too thick or too short."""
    height, length = strip.shape
    columns, rows = np.arange(length), np.arange(height, dtype=np.int16)[:, None]
    # The inked row nearest the line's, within a few pixels: lines are not quite straight.
    wobble = max(2, side // 250)
    order = reach + np.array(sorted(range(-wobble, wobble + 1), key=abs))
    nearest = order[strip[order].argmax(axis=0)].astype(np.int16)
    inked = strip[order].any(axis=0)
    if inked.mean() < COVERAGE:
        return None
    above = np.where(~strip & (rows < nearest), rows, np.int16(-1)).max(axis=0)
    below = np.where(~strip & (rows > nearest), rows, np.int16(height)).min(axis=0)
    run = np.where(inked, below - above - 1, 0)
    thickness = float(np.percentile(run[inked], 40))
    thin = inked & (run <= 1.6 * thickness + 2)
    if thickness > WIDEST * side or thin.mean() < COVERAGE:
        return None
    ends = columns[thin][[0, -1]]
    reached = slice(ends[0], ends[1] + 1)
    through = bool(ends[0] <= REACHES * length and ends[1] >= (1 - REACHES) * length - 1)
    if inked[reached].mean() < STRAIGHT or not through and thin[reached].mean() < STRAIGHT:
        return None
    centre = np.interp(columns, columns[thin], ((above + below) / 2)[thin])
    band = np.abs(rows - centre) <= thickness / 2 + 1
    # A pen that is darker than the line shows where it lies over it.
    level = float(np.median(contrast[band & strip & thin]))
    pen = strip & (contrast > DARKER * level)
    # Mend strokes that the line crosses: close the gap that it leaves.
    left = strip & (~band | pen)
    step = float(np.hypot(*place[:, 0]))
    tall = 2 * int(thickness / 2 + 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(tall / 2 / step) + 1, tall))
    mended = cv2.morphologyEx(left.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0
    start, end = (place @ (column, reach, 1) for column in ends)
    return Line(theta, thickness, through, start, end, band & ~mended, place)


def _believable(lines: list[Line]) -> list[Line]:
    """Keep lines from edge to edge, and those that are the four sides of a box, without strokes that lie along one."""
    if len(lines) >= GRID:
        usual = float(np.median([line.thickness for line in lines]))
        lines = [line for line in lines if line.thickness < BROADER * usual + 2]
    upright = [line for line in lines if abs(np.sin(line.angle)) < 0.3]
    flat = [line for line in lines if abs(np.sin(line.angle)) > 0.95]
    through = [line for line in upright + flat if line.through]
    upright, flat = ([line for line in some if not line.through] for some in (upright, flat))
    sides = [line for line in upright if _meets(line, flat)], [line for line in flat if _meets(line, upright)]
    return through + (sides[0] + sides[1] if min(map(len, sides)) >= 2 else [])


def _meets(line: Line, others: list[Line]) -> bool:
    """Return whether a line meets two others near its ends."""
    length = float(np.hypot(*(line.end - line.start)))
    along = (line.end - line.start) / max(length, 1)
    crossings = []
    for other in others:
        way = other.end - other.start
        determinant = along[0] * way[1] - along[1] * way[0]
        if abs(determinant) > 1e-6:
            offset = other.start - line.start
            crossings.append((offset[0] * way[1] - offset[1] * way[0]) / determinant / max(length, 1))
    return any(abs(at) < CORNER for at in crossings) and any(abs(at - 1) < CORNER for at in crossings)
