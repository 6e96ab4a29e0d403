"""The random choices of a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.composed.sheet import Colour, Point


@dataclass(frozen=True)
class Chance:
    """Random numbers around a recipe's figures, or those figures themselves where the recipe is not `varied`."""

    random: np.random.Generator
    varied: bool = True

    def near(self, value: float, part: float = 0.25) -> float:
        """Return a value at most this part of it off."""
        return value * self.random.uniform(1 - part, 1 + part) if self.varied else value

    def off(self, value: float, most: float) -> float:
        """Return a value at most `most` off."""
        return value + self.random.uniform(-most, most) if self.varied else value

    def between(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def one_of(self, usual, *others):
        """Return one of several, the first where the recipe is not varied."""
        return [usual, *others][self.random.integers(1 + len(others))] if self.varied else usual

    def tint(self, colour: Colour, most: float = 12) -> Colour:
        """Return a colour, lighter or darker as a whole and a little in each part."""
        whole = self.off(0, most)
        return [min(max(self.off(part, most / 3) + whole, 0), 255) for part in colour]

    def centre(self, x: float = 0.5, y: float = 0.5, most: float = 0.06) -> Point:
        return self.off(x, most), self.off(y, most)

    def angle(self, most: float = 8) -> float:
        return self.off(0, most)

    def free(self) -> Chance:
        return replace(self, varied=True)
