"""Train an MLP."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

from model import provenance
from model.data.corrections import Corrections
from model.data.loader import Batch, TrainingData
from model.data.splits import Mnist, Split
from model.network.mlp import MLP, build_network, fuse_batch_norm, to_tensor
from model.presets import PRESETS, Config, Preset
from model.rank import Failure, GroupLost
from model.task import DIGITS
from model.training.checkpoint import pack, unpack
from model.training.distributed import Group

REPORT_SECONDS = 0.25
AVERAGED_EPOCHS = 5.0
AVERAGED_EVERY = 4
"""Steps between averages: weights hardly differ from one to the next, and an average is a pass over all of them."""
# bfloat16 is faster only on processors with tile multiplication (AMX).
HALF_IS_FAST = torch.cpu._is_amx_tile_supported()


class TrainingError(Failure):
    """The training has diverged."""


@dataclass(frozen=True)
class Epoch:
    """Figures of an epoch; epoch 0 is the untrained network. Losses are mean cross-entropies in nats.

    `test_accuracy` is there for presets that are measured on the test set after each epoch.
    """

    epoch: int
    train_loss: float | None
    validation_loss: float
    validation_accuracy: float
    seconds: float
    test_accuracy: float | None = None

    def as_dict(self) -> dict:
        values = asdict(self)
        if self.test_accuracy is None:
            del values["test_accuracy"]
        return values


@dataclass(frozen=True)
class Progress:
    """Progress of a run: `epoch` of `epochs` is under way, `fraction`, 0 to 1, of the run is done."""

    epoch: int
    epochs: int
    fraction: float
    train_loss: float | None
    seconds_left: float | None
    history: tuple[Epoch, ...]


@dataclass(frozen=True)
class Result:
    """A finished or stopped training: the network of the epoch kept, in eval mode, and its accuracy, 0 to 1."""

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
    corrections: Corrections | None = None,
    checkpoint: bytes | None = None,
    on_checkpoint: Callable[[bytes], None] | None = None,
    group: Group | None = None,
) -> Result:
    """Train by `config` on `data.train` and keep the epoch with the best accuracy on `data.validation`.

    A preset with `all_digits` learns from the validation and gate digits too and keeps the last epoch.
    Train as well on `corrections` that are not held out, if any, and then keep the last epoch: a choice by MNIST's
    digits alone would prefer a network that has learnt nothing from them.

    `start` is the network that a preset with `fine_tunes` starts from, None for others (else ValueError).
    `on_progress` is called after every epoch and at most four times a second within it; `should_stop` is asked before
    every step. Equal arguments give equal networks on one machine with one number of threads.

    `on_checkpoint` gets bytes after every epoch but the last. Given as `checkpoint`, with equal other arguments, they
    resume the training to an equal result; a damaged checkpoint or that of another training is ignored. Raises
    TrainingError when the loss is no longer finite.

    Of several processes (`config.processes`) each calls this function, with its `group`, and all return equal networks:
    every batch is divided among them, and each step uses the mean of their gradients. Batch normalisation uses the
    statistics of each part (as the "ghost batches" of Hoffer et al., 2017). All stop when one is asked to, and resume
    from the checkpoint of rank 0. Raises GroupLost where a process is lost.
    """
    if PRESETS[config.preset].fine_tunes != (start is not None):
        raise ValueError(f"the preset {config.preset} goes on from a network, and only that one")
    group = group or Group()
    if config.processes != group.size:
        raise ValueError(f"{config.processes} processes are to train, and {group.size} are there")
    learnt = corrections.to_learn if corrections else None
    run = _Run(config, data, on_progress, on_epoch, start, learnt, on_checkpoint, group)
    return run.run(should_stop, checkpoint)


@dataclass
class _Run:
    config: Config
    data: Mnist
    on_progress: Callable[[Progress], None]
    on_epoch: Callable[[Epoch, MLP], None]
    start: MLP | None
    corrections: Corrections | None
    on_checkpoint: Callable[[bytes], None] | None
    group: Group
    history: list[Epoch] = field(default_factory=list)

    def __post_init__(self):
        self.preset = self.config.effective_preset(correcting=bool(self.corrections))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.network = copy.deepcopy(self.start) if self.start else build_network(self.preset)
        self.started = self.reported = time.monotonic()

    def run(self, should_stop: Callable[[], bool], checkpoint: bytes | None) -> Result:
        if not self.group.all_equal(self._task().encode()):
            message = "the processes were not given the same to train, or have not the same code"
            raise GroupLost(message, "tasks_differ")
        teacher = self.start if self.corrections else None
        training_data = TrainingData(
            self.data.all_training if self.preset.all_digits else self.data.train,
            self.config.seed,
            deformed=self.preset.deformed,
            drawings=self.preset.drawn,
            refused=self.network.outputs > DIGITS,
            corrections=self.corrections,
        )
        self.loop = TrainingLoop(self.preset, self.network, training_data, self.config.epochs, teacher, self.group)
        # rank 0's, since all must come to one answer, even on machines that differ
        identity = self.group.broadcast(self._identity().encode()).decode()
        checkpoint = self.group.broadcast(checkpoint or b"")
        state = unpack(checkpoint, identity) if checkpoint else None
        if state:
            self._resume(state)
        else:
            self.best, self.best_epoch = self._finish_epoch(0, None, self.network), self.history[0]
        for epoch in range(len(self.history), self.config.epochs + 1):
            loss = self.loop.epoch(epoch, should_stop, self._report)
            if loss is None:
                return self._result(stopped=True)
            network = self._finish_epoch(epoch, loss, self.loop.averaged)
            if self._keeps_last() or self.history[-1].validation_accuracy >= self.best_epoch.validation_accuracy:
                self.best, self.best_epoch = network, self.history[-1]
            if self.on_checkpoint and epoch < self.config.epochs:
                self.on_checkpoint(pack(self._identity(), self._state()))
        return self._result(stopped=False)

    def _keeps_last(self) -> bool:
        """Return whether the validation digits cannot choose the epoch."""
        return bool(self.corrections) or self.preset.all_digits

    def _task(self) -> str:
        """Return what all processes must agree on: configuration, data, code."""
        corrections = self.corrections.digest() if self.corrections else ""
        start = hashlib.sha256(_weight_bytes(self.start) if self.start else b"").hexdigest()
        return repr((self.config, len(self.data.train), start, corrections, provenance.digest()))

    def _identity(self) -> str:
        """Return what must not differ for a checkpoint to lead to an equal result."""
        machine = provenance.libraries(), torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), HALF_IS_FAST
        return self._task() + repr(machine)

    def _state(self) -> dict[str, Any]:
        return {
            "history": [epoch.as_dict() for epoch in self.history],
            "best_epoch": self.best_epoch.epoch,
            "best": self.best.state_dict(),
            "loop": self.loop.state(),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best_epoch = self.history[state["best_epoch"]]
        self.best = fuse_batch_norm(self.network)
        self.best.load_state_dict(state["best"])
        self.loop.resume(state["loop"])
        self.started -= self.history[-1].seconds

    def _report(self, epochs: float, train_loss: torch.Tensor | float | None) -> None:
        """Report that `epochs` are done, unless the last report was less than REPORT_SECONDS ago."""
        if time.monotonic() - self.reported < REPORT_SECONDS:
            return
        self.reported = time.monotonic()
        spent, fraction = self.reported - self.started, epochs / self.config.epochs
        left = spent / fraction - spent if fraction > 0 else None
        loss = None if train_loss is None else float(train_loss)
        told = Progress(math.ceil(epochs), self.config.epochs, fraction, loss, left, tuple(self.history))
        self.on_progress(told)

    def _finish_epoch(self, epoch: int, train_loss: float | None, network: MLP) -> MLP:
        network = fuse_batch_norm(network)
        if self.group.size > 1 and not self.group.all_equal(_weight_bytes(network)):
            message = f"the processes have come to different networks in epoch {epoch}"
            raise TrainingError(message, "networks_differ", epoch=epoch)
        loss, accuracy = _validate(network, self.data.validation)
        if not math.isfinite(loss + (train_loss or 0.0)):
            raise TrainingError(f"the loss stopped being a number in epoch {epoch}", "diverged", epoch=epoch)
        test_accuracy = _validate(network, self.data.test)[1] if self.preset.all_digits else None
        seconds = time.monotonic() - self.started
        self.history.append(Epoch(epoch, train_loss, loss, accuracy, seconds, test_accuracy))
        self.reported = -math.inf  # the end of an epoch is always reported
        self._report(epoch, train_loss)
        self.on_epoch(self.history[-1], network)
        return network

    def _result(self, stopped: bool) -> Result:
        epoch = self.best_epoch
        return Result(self.best, tuple(self.history), epoch.epoch, epoch.validation_accuracy, stopped)


class TrainingLoop:
    """Trains one network step by step; `averaged` is the result.

    With a `teacher`, all data but the corrections are labelled with its probabilities, so that the network learns the
    corrections and keeps the rest ("Learning without forgetting", Li and Hoiem, 2016).
    """

    def __init__(
        self,
        preset: Preset,
        network: MLP,
        training_data: TrainingData,
        epochs: int,
        teacher: MLP | None = None,
        group: Group | None = None,
    ):
        self.preset, self.network, self.training_data, self.teacher = preset, network, training_data, teacher
        self.group = group or Group()
        self.steps = math.ceil(len(training_data) / preset.batch_size)
        rate, decay = preset.learning_rate, preset.weight_decay
        # without weight decay, AdamW is Adam
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay, fused=True)
        self.schedule: LRScheduler = (
            LambdaLR(self.optimizer, lambda step: 1.0)
            if preset.schedule == "constant"
            else OneCycleLR(self.optimizer, rate, total_steps=self.steps * epochs, pct_start=0.2)
        )
        self.average = _average(network, AVERAGED_EPOCHS * self.steps / AVERAGED_EVERY) if preset.averaged else None
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=preset.mixed_precision and HALF_IS_FAST)

    def epoch(
        self, epoch: int, should_stop: Callable[[], bool], tell: Callable[[float, torch.Tensor], None]
    ) -> float | None:
        """Pass once over the training data; return the mean loss, or None where stopped.

        `tell` is called after each step with the number of epochs done and the mean loss so far.
        """
        self.network.train()
        total = torch.zeros(())
        batches = self.training_data.epoch(epoch, self.preset.batch_size, self.group.rank, self.group.size)
        for step, batch in enumerate(batches, 1):
            if self.group.should_stop(should_stop()):
                return None
            total += self.step(batch)
            tell(epoch - 1 + step / self.steps, total / step)
        return float(total) / self.steps

    def step(self, batch: Batch) -> torch.Tensor:
        """Take one step of the optimizer; return the loss."""
        self.optimizer.zero_grad()
        with self.autocast:
            logits = self.network(batch.inputs)
        loss = self._loss(logits.float(), batch)
        loss.backward()
        loss = loss.detach()
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        statistics = [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]
        self.group.average([*gradients, *statistics, loss], batch.weight)
        self.optimizer.step()
        self.schedule.step()
        if self.average and self.schedule.last_epoch % AVERAGED_EVERY == 0:  # it counts steps
            self.average.update_parameters(self.network)
        return loss

    def _loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy of logits (B, outputs) with the labels, or with the teacher's probabilities."""
        smoothing = self.preset.label_smoothing
        if self.teacher is None:
            return F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
        with torch.no_grad(), self.autocast:
            said = self.teacher(batch.inputs).float().softmax(1)
        outputs = self.network.outputs
        meant = F.one_hot(batch.labels, outputs).float() * (1 - smoothing) + smoothing / outputs
        return F.cross_entropy(logits, torch.where(batch.is_correction[:, None], meant, said))

    @property
    def averaged(self) -> MLP:
        network = self.average.module if self.average else self.network
        assert isinstance(network, MLP)
        return network

    def state(self) -> dict[str, Any]:
        """Return all state that steps change; the data's random numbers depend on the epoch alone."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def resume(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        parts = {"network": self.network, "optimizer": self.optimizer, "schedule": self.schedule}
        return parts | ({"average": self.average} if self.average else {})


def _average(network: MLP, memory: float) -> AveragedModel:
    """Return a moving average of the weights (Polyak and Juditsky, 1992) over about the last `memory` updates."""

    def follow(averaged: torch.Tensor, current: torch.Tensor, updates: torch.Tensor | int) -> torch.Tensor:
        # a plain mean at first, so that the random initialisation fades within the first epochs
        return averaged + (current - averaged) / min(memory, 1 + int(updates))

    return AveragedModel(network, avg_fn=follow, use_buffers=True)


def _weight_bytes(network: MLP) -> bytes:
    return b"".join(parameter.detach().numpy().tobytes() for parameter in network.parameters())


@torch.inference_mode()
def _validate(network: MLP, split: Split) -> tuple[float, float]:
    logits = network(to_tensor(split.images))[:, :DIGITS]
    loss = F.cross_entropy(logits, split.labels)
    return float(loss), float((logits.argmax(1) == split.labels).float().mean())
