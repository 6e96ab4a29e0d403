"""The named presets, and what a run is asked to do. Imports no torch: forms and command lines check with it at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A named way to make a network: its hidden layers and how it is trained."""

    name: str
    summary: str
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    batch_norm: bool = False
    one_cycle: bool = False
    deformed: bool = False
    averaged: bool = False
    refuses: bool = False


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="seed",
            summary="784-64-64-64-10, Adam, two epochs on MNIST as it is: the script Inkling grew from",
            hidden=(64, 64, 64),
            epochs=2,
            batch_size=15,
            learning_rate=0.001,
        ),
        Preset(
            name="standard",
            summary="784-800-800-10 on deformed digits, one-cycle AdamW, averaged weights",
            hidden=(800, 800),
            epochs=20,
            batch_size=128,
            learning_rate=0.003,
            weight_decay=0.02,
            label_smoothing=0.02,
            batch_norm=True,
            one_cycle=True,
            deformed=True,
            averaged=True,
            refuses=True,
        ),
    )
}


@dataclass(frozen=True)
class Config:
    """What to train: a preset's name, for how many epochs, from which seed.

    Raises ValueError where a value is out of its range.
    """

    preset: str = "standard"
    epochs: int = 0
    seed: int = 0

    def __post_init__(self):
        if self.preset not in PRESETS:
            raise ValueError(f"there is no preset {self.preset!r}; the presets are {', '.join(PRESETS)}")
        if self.epochs == 0:
            object.__setattr__(self, "epochs", PRESETS[self.preset].epochs)
        if not 1 <= self.epochs <= 1000:
            raise ValueError(f"epochs must be from 1 to 1000, not {self.epochs}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"the seed must be from 0 to {2**32 - 1}, not {self.seed}")
