"""Training an MLP: one importable function, no printing, no globals."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F

from model.material import Material
from model.mnist import Mnist, Split
from model.network import MLP, fold, for_training
from model.picture import to_tensor
from model.presets import PRESETS, Config, Preset
from model.verdict import DIGITS

REPORT_SECONDS = 0.25
AVERAGE_DECAY = 0.999
# Only processors that multiply tiles of bfloat16 (AMX) are faster with it; others are slower.
_HALF_IS_FAST = torch.cpu._is_amx_tile_supported()


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why."""


@dataclass(frozen=True)
class Epoch:
    """One epoch's figures; epoch 0 is the untrained network. Losses are mean cross-entropies in nats."""

    epoch: int
    train_loss: float | None
    validation_loss: float
    validation_accuracy: float
    seconds: float

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """Where a run stands: `epoch` of `epochs` is under way, `fraction` (0 to 1) of the whole run is done."""

    epoch: int
    epochs: int
    fraction: float
    train_loss: float | None
    seconds_left: float | None
    history: tuple[Epoch, ...]


@dataclass(frozen=True)
class Result:
    """A finished (or stopped) training: the network of the best epoch by validation, in eval mode."""

    network: MLP
    history: tuple[Epoch, ...]
    best_epoch: int
    validation_accuracy: float
    stopped: bool


def train(
    config: Config,
    data: Mnist,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[Epoch, MLP], None] = lambda epoch, network: None,
    start: MLP | None = None,
) -> Result:
    """Trains by `config` on `data.train` and keeps the epoch that reads `data.validation` best.

    `start` is the network that a preset which fine-tunes goes on from, and None for the others (else ValueError).
    `on_progress` is called after every epoch and at most four times a second within it; `should_stop` is asked before
    every step. The same arguments give the same network on the same machine with the same number of threads.
    Raises TrainingError when the loss stops being a number.
    """
    if PRESETS[config.preset].fine_tunes != (start is not None):
        raise ValueError(f"the preset {config.preset} goes on from a network, and only that one")
    return _Run(config, data, on_progress, on_epoch, start).go(should_stop)


@dataclass
class _Run:
    config: Config
    data: Mnist
    on_progress: Callable[[Progress], None]
    on_epoch: Callable[[Epoch, MLP], None]
    start: MLP | None
    history: list[Epoch] = field(default_factory=list)

    def __post_init__(self):
        self.preset = PRESETS[self.config.preset]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.network = copy.deepcopy(self.start) if self.start else for_training(self.preset)
        self.started = self.reported = time.monotonic()

    def go(self, should_stop: Callable[[], bool]) -> Result:
        best = self._finish_epoch(0, None, self.network)
        best_epoch = self.history[0]
        preset, refused = self.preset, self.network.outputs > DIGITS
        material = Material(
            self.data.train, self.config.seed, deformed=preset.deformed, drawings=preset.drawn, refused=refused
        )
        loop = Loop(preset, self.network, material, self.config.epochs)
        for epoch in range(1, self.config.epochs + 1):
            loss = loop.epoch(epoch, should_stop, self._tell)
            if loss is None:
                return self._result(best, best_epoch, stopped=True)
            network = self._finish_epoch(epoch, loss, loop.averaged)
            if self.history[-1].validation_accuracy >= best_epoch.validation_accuracy:
                best, best_epoch = network, self.history[-1]
        return self._result(best, best_epoch, stopped=False)

    def _tell(self, epochs: float, loss: torch.Tensor) -> None:
        self._report(math.ceil(epochs), epochs / self.config.epochs, loss)

    def _report(self, epoch: int, fraction: float, train_loss: torch.Tensor | float | None) -> None:
        if time.monotonic() - self.reported < REPORT_SECONDS:
            return
        self.reported = time.monotonic()
        spent = self.reported - self.started
        left = spent / fraction - spent if fraction > 0 else None
        loss = None if train_loss is None else float(train_loss)
        self.on_progress(Progress(epoch, self.config.epochs, fraction, loss, left, tuple(self.history)))

    def _finish_epoch(self, epoch: int, train_loss: float | None, network: MLP) -> MLP:
        if train_loss is not None and not math.isfinite(train_loss):
            raise TrainingError(f"the loss stopped being a number in epoch {epoch}")
        network = fold(network)
        loss, accuracy = _measure(network, self.data.validation)
        self.history.append(Epoch(epoch, train_loss, loss, accuracy, time.monotonic() - self.started))
        self.reported = -math.inf  # an epoch's end is always told
        self._report(epoch, epoch / self.config.epochs, train_loss)
        self.on_epoch(self.history[-1], network)
        return network

    def _result(self, best: MLP, epoch: Epoch, stopped: bool) -> Result:
        return Result(best, tuple(self.history), epoch.epoch, epoch.validation_accuracy, stopped)


class Loop:
    """The steps that train one network; `averaged` is what it has become."""

    def __init__(self, preset: Preset, network: MLP, material: Material, epochs: int):
        self.preset, self.network, self.material = preset, network, material
        self.steps = math.ceil(len(material) / preset.batch_size)
        self.optimizer, self.schedule = _optimizer(preset, network, self.steps * epochs)
        self.average = Average(network) if preset.averaged else None
        self.mixed = preset.mixed_precision and _HALF_IS_FAST

    @property
    def averaged(self) -> MLP:
        return self.average.network if self.average else self.network

    def epoch(
        self, epoch: int, should_stop: Callable[[], bool], tell: Callable[[float, torch.Tensor], None]
    ) -> float | None:
        """One pass over the material; its mean loss, or None where it was stopped.

        `tell` hears after each step how many epochs are done and the loss so far.
        """
        self.network.train()
        total = torch.zeros(())
        for step, (inputs, labels) in enumerate(self.material.epoch(epoch, self.preset.batch_size), 1):
            if should_stop():
                return None
            total += self.step(inputs, labels)
            tell(epoch - 1 + step / self.steps, total / step)
        return float(total) / self.steps

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One step of the optimizer on inputs float32 (B, 784) with labels int64 (B,); the loss."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            logits = self.network(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.preset.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.schedule:
            self.schedule.step()
        if self.average:
            self.average.update(self.network)
        return loss.detach()


class Average:
    """An exponential moving average of a network's weights (Polyak and Juditsky 1992)."""

    def __init__(self, network: MLP):
        self.network = copy.deepcopy(network)
        self.updates = 0
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def update(self, network: MLP) -> None:
        self.updates += 1
        # a plain mean at first, so that the random start is forgotten within the first epochs
        weight = max(1 - AVERAGE_DECAY, 1 / (self.updates + 1))
        ours, theirs = self.network.state_dict(), network.state_dict()
        floats = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_([ours[name] for name in floats], [theirs[name] for name in floats], weight)


def _optimizer(preset: Preset, network: MLP, steps: int):
    """Adam as the seed script had it, or AdamW under a one-cycle schedule (Smith and Topin 2017)."""
    adam = torch.optim.AdamW(
        network.parameters(), lr=preset.learning_rate, weight_decay=preset.weight_decay, fused=True
    )
    if not preset.one_cycle:
        return adam, None
    return adam, torch.optim.lr_scheduler.OneCycleLR(adam, preset.learning_rate, total_steps=steps, pct_start=0.2)


@torch.inference_mode()
def _measure(network: MLP, split: Split) -> tuple[float, float]:
    logits = network(to_tensor(split.images))[:, :DIGITS]
    loss = F.cross_entropy(logits, split.labels)
    return float(loss), float((logits.argmax(1) == split.labels).float().mean())
