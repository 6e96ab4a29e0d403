"""Training an MLP: one importable function, no printing, no globals."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F

from model.deform import Deformer
from model.mnist import Mnist, Split
from model.network import MLP, fold, for_training
from model.picture import to_tensor
from model.presets import PRESETS, Config, Preset

REPORT_SECONDS = 0.25
AVERAGE_DECAY = 0.999


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
) -> Result:
    """Trains by `config` on `data.train` and keeps the epoch that reads `data.validation` best.

    `on_progress` is called after every epoch and at most four times a second within it; `should_stop` is asked before
    every step. The same config and data give the same network on the same machine with the same number of threads.
    Raises TrainingError when the loss stops being a number.
    """
    return _Run(config, data, on_progress, on_epoch).go(should_stop)


@dataclass
class _Run:
    config: Config
    data: Mnist
    on_progress: Callable[[Progress], None]
    on_epoch: Callable[[Epoch, MLP], None]
    history: list[Epoch] = field(default_factory=list)

    def __post_init__(self):
        self.preset = PRESETS[self.config.preset]
        self.random = torch.Generator().manual_seed(self.config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.network = for_training(self.preset)
        self.average = Average(self.network) if self.preset.averaged else None
        self.steps = math.ceil(len(self.data.train.labels) / self.preset.batch_size)
        self.optimizer, self.schedule = _optimizer(self.preset, self.network, self.steps * self.config.epochs)
        if self.preset.deformed:
            self.batch = Deformer(self.data.train.images, self.config.seed).batch
        else:
            self.batch = lambda index: to_tensor(self.data.train.images[index])
        self.started = self.reported = time.monotonic()

    def go(self, should_stop: Callable[[], bool]) -> Result:
        best = self._finish_epoch(0, None)
        best_epoch = self.history[0]
        for epoch in range(1, self.config.epochs + 1):
            loss = self._epoch(epoch, should_stop)
            if loss is None:
                return self._result(best, best_epoch, stopped=True)
            network = self._finish_epoch(epoch, loss)
            if self.history[-1].validation_accuracy >= best_epoch.validation_accuracy:
                best, best_epoch = network, self.history[-1]
        return self._result(best, best_epoch, stopped=False)

    def _epoch(self, epoch: int, should_stop: Callable[[], bool]) -> float | None:
        """One pass over the training digits; its mean loss, or None where it was stopped."""
        self.network.train()
        order = torch.randperm(len(self.data.train.labels), generator=self.random)
        total = torch.zeros(())
        for step, index in enumerate(order.split(self.preset.batch_size), 1):
            if should_stop():
                return None
            total += self._step(index) * len(index)
            if time.monotonic() - self.reported >= REPORT_SECONDS:
                seen = min(step * self.preset.batch_size, len(order))
                self._report(epoch, (epoch - 1 + step / self.steps) / self.config.epochs, float(total) / seen)
        return float(total) / len(order)

    def _step(self, index: torch.Tensor) -> torch.Tensor:
        logits = self.network(self.batch(index))
        loss = F.cross_entropy(logits, self.data.train.labels[index], label_smoothing=self.preset.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.schedule:
            self.schedule.step()
        if self.average:
            self.average.update(self.network)
        return loss.detach()

    def _finish_epoch(self, epoch: int, train_loss: float | None) -> MLP:
        if train_loss is not None and not math.isfinite(train_loss):
            raise TrainingError(f"the loss stopped being a number in epoch {epoch}")
        network = fold(self.average.network if self.average else self.network)
        loss, accuracy = _measure(network, self.data.validation)
        seconds = time.monotonic() - self.started
        self.history.append(Epoch(epoch, train_loss, loss, accuracy, seconds))
        self._report(epoch, epoch / self.config.epochs, train_loss)
        self.on_epoch(self.history[-1], network)
        return network

    def _report(self, epoch: int, fraction: float, train_loss: float | None) -> None:
        self.reported = time.monotonic()
        spent = self.reported - self.started
        left = spent / fraction - spent if fraction > 0 else None
        progress = Progress(epoch, self.config.epochs, fraction, train_loss, left, tuple(self.history))
        self.on_progress(progress)

    def _result(self, best: MLP, epoch: Epoch, stopped: bool) -> Result:
        return Result(best, tuple(self.history), epoch.epoch, epoch.validation_accuracy, stopped)


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
    logits = network(to_tensor(split.images))
    loss = F.cross_entropy(logits, split.labels)
    return float(loss), float((logits.argmax(1) == split.labels).float().mean())
