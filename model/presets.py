"""Presets of networks and trainings, and the configuration of a run. Imports no torch, so that forms load at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

MOST_PROCESSES = 64
"""With this many, each process still has some pictures in every batch."""
MOST_EPOCHS = 1000
BIGGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Preset:
    """Hidden layers of a network and hyperparameters of its training.

    `drawn` adds synthetic digits and non-digits to MNIST and trains the network to refuse the latter. `deformed`
    augments every picture, `averaged` keeps a moving average of the weights. `mixed_precision` multiplies in bfloat16
    where that is faster. A preset without hidden layers fine-tunes existing weights: with `correcting_rate` where it
    learns corrections (distillation then keeps the rest from changing), with `learning_rate` otherwise.
    """

    name: str
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    correcting_rate: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    batch_norm: bool = False
    deformed: bool = False
    averaged: bool = False
    drawn: bool = False
    mixed_precision: bool = False

    @property
    def fine_tunes(self) -> bool:
        return not self.hidden


_BASIC = Preset(
    name="basic",
    hidden=(64, 64, 64),
    epochs=4,
    batch_size=384,
    learning_rate=0.015,
)
_STANDARD = Preset(
    name="standard",
    hidden=(1024, 768, 512),
    epochs=30,
    batch_size=2048,
    learning_rate=0.01,
    weight_decay=0.02,
    label_smoothing=0.02,
    batch_norm=True,
    deformed=True,
    averaged=True,
    drawn=True,
    mixed_precision=True,
)
_THOROUGH = replace(
    _STANDARD,
    name="thorough",
    hidden=(1280, 768, 512),
    epochs=450,
    batch_size=512,
    learning_rate=0.008,
)
_FINE_TUNE = replace(
    _STANDARD,
    name="fine-tune",
    hidden=(),
    epochs=3,
    batch_size=512,
    learning_rate=3e-6,  # Adam moves each weight by about this much, and fused layers have small weights
    correcting_rate=1e-4,
    batch_norm=False,  # already fused into the weights
)
PRESETS = {preset.name: preset for preset in (_BASIC, _STANDARD, _THOROUGH, _FINE_TUNE)}
_FORMER_NAMES = {"seed": "basic"}


def canonical(name: str) -> str:
    """Return the present name of a preset: rows, model cards and command lines may hold a former one."""
    return _FORMER_NAMES.get(name, name)


class ConfigError(ValueError):
    """A value of a configuration is out of range; `field` is its name."""

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Config:
    """Configuration of a run: preset, epochs (0: the preset's), random seed, number of processes.

    A former name of a preset becomes the present one. Raises ConfigError where a value is out of range.
    """

    preset: str = "standard"
    epochs: int = 0
    seed: int = 0
    processes: int = 1

    def __post_init__(self):
        object.__setattr__(self, "preset", canonical(self.preset))
        if self.preset not in PRESETS:
            raise ConfigError("preset", f"there is no preset {self.preset!r}; the presets are {', '.join(PRESETS)}")
        if self.epochs == 0:
            object.__setattr__(self, "epochs", PRESETS[self.preset].epochs)
        if not 1 <= self.epochs <= MOST_EPOCHS:
            raise ConfigError("epochs", f"epochs must be from 1 to {MOST_EPOCHS}, not {self.epochs}")
        if not 0 <= self.seed <= BIGGEST_SEED:
            raise ConfigError("seed", f"the seed must be from 0 to {BIGGEST_SEED}, not {self.seed}")
        if not 1 <= self.processes <= MOST_PROCESSES:
            raise ConfigError("processes", f"the processes must be from 1 to {MOST_PROCESSES}, not {self.processes}")
