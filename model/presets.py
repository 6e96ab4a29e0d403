"""Presets of networks and trainings, and the configuration of a run. Imports no torch, so that forms load at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from model.task import ALL_LEARNT, SPLIT

MOST_PROCESSES = 64
MOST_EPOCHS = 1000
BIGGEST_SEED = 2**32 - 1
MOST_BATCH_SIZE = 4096
"""An epoch of MNIST still has a dozen steps: the one-cycle schedule needs more than five in all."""
LOWEST_RATE, HIGHEST_RATE = 1e-8, 1.0
Schedule = Literal["one-cycle", "constant"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclass(frozen=True)
class Preset:
    """Hidden layers of a network and hyperparameters of its training.

    `schedule` is the course of the learning rate, `learning_rate` its highest value. `all_digits` learns from all
    60,000 training digits, validation and gate digits included: then the last epoch is kept, and each is measured on
    the test set, which decides nothing. `drawn` adds synthetic digits and non-digits to MNIST and trains the network to
    refuse the latter. `deformed` augments every picture, `averaged` keeps a moving average of the weights.
    `mixed_precision` multiplies in bfloat16 where that is faster. A preset without hidden layers fine-tunes existing
    weights: with `correcting_rate` where it learns corrections (distillation then keeps the rest from changing), with
    `learning_rate` otherwise.
    """

    name: str
    summary: str
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule = "one-cycle"
    correcting_rate: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    batch_norm: bool = False
    all_digits: bool = False
    deformed: bool = False
    averaged: bool = False
    drawn: bool = False
    mixed_precision: bool = False

    @property
    def fine_tunes(self) -> bool:
        return not self.hidden

    @property
    def split(self) -> str:
        """Return the name in model cards of the division of MNIST that it trains by."""
        return ALL_LEARNT if self.all_digits else SPLIT


_ORIGINAL = Preset(
    name="original",
    summary=(
        "the script that Inkling grew from, unchanged; learns from all 60,000 digits, so that only the test set "
        "judges it"
    ),
    hidden=(64, 64, 64),
    epochs=2,
    batch_size=15,
    learning_rate=0.001,
    schedule="constant",
    all_digits=True,
)
_BASIC = Preset(
    name="basic",
    summary=(
        "the original's network by a quicker recipe: batches of 384, not 15; a learning rate of up to 0.015 in one "
        "cycle, not 0.001; 4 epochs, not 2; 50,000 digits, not 60,000"
    ),
    hidden=(64, 64, 64),
    epochs=4,
    batch_size=384,
    learning_rate=0.015,
)
_STANDARD = Preset(
    name="standard",
    summary="knows what is no digit",
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
    summary="trained longest; knows what is no digit",
    hidden=(1280, 768, 512),
    epochs=450,
    batch_size=512,
    learning_rate=0.008,
)
_FINE_TUNE = replace(
    _STANDARD,
    name="fine-tune",
    summary="goes on from the version in service",
    hidden=(),
    epochs=3,
    batch_size=512,
    learning_rate=3e-6,  # Adam moves each weight by about this much, and fused layers have small weights
    correcting_rate=1e-4,
    batch_norm=False,  # already fused into the weights
)
PRESETS = {preset.name: preset for preset in (_ORIGINAL, _BASIC, _STANDARD, _THOROUGH, _FINE_TUNE)}
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

    Batch size, learning rate and schedule are the preset's where they are None. A former name of a preset becomes the
    present one. Raises ConfigError where a value is out of range.
    """

    preset: str = "standard"
    epochs: int = 0
    seed: int = 0
    processes: int = 1
    batch_size: int | None = None
    learning_rate: float | None = None
    schedule: Schedule | None = None

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
        if self.batch_size is not None and not 1 <= self.batch_size <= MOST_BATCH_SIZE:
            limits = f"from 1 to {MOST_BATCH_SIZE}"
            raise ConfigError("batch_size", f"the batch size must be {limits}, not {self.batch_size}")
        if self.learning_rate is not None and not LOWEST_RATE <= self.learning_rate <= HIGHEST_RATE:
            limits = f"from {LOWEST_RATE:g} to {HIGHEST_RATE:g}"
            raise ConfigError("learning_rate", f"the learning rate must be {limits}, not {self.learning_rate:g}")
        if self.schedule is not None and self.schedule not in SCHEDULES:
            schedules = " or ".join(SCHEDULES)
            raise ConfigError("schedule", f"the schedule must be {schedules}, not {self.schedule!r}")
        self._check_parts()

    def _check_parts(self) -> None:
        """Raise ConfigError where a process would be left without pictures in a batch, or with one to normalise by."""
        preset = self.effective_preset()
        pictures = self.processes * (2 if preset.batch_norm else 1)
        # batches are about equally long, so that all may have a picture less than the batch size
        if preset.batch_size <= pictures and pictures > 1:
            whom = f"{self.processes} processes" if self.processes > 1 else f"the preset {self.preset}"
            message = f"the batch size must be at least {pictures + 1} for {whom}, not {preset.batch_size}"
            raise ConfigError("processes" if self.batch_size is None else "batch_size", message)

    def effective_preset(self, correcting: bool = False) -> Preset:
        """Return the preset with this run's own batch size, learning rate and schedule in place of its own.

        `learning_rate` is then the one that is used; it depends on whether the run learns from corrections.
        """
        preset = PRESETS[self.preset]
        return replace(
            preset,
            batch_size=self.batch_size or preset.batch_size,
            learning_rate=self.learning_rate or (correcting and preset.correcting_rate) or preset.learning_rate,
            schedule=self.schedule or preset.schedule,
        )
