"""Package a finished training as a version: calibrate, measure on the test set, write the card."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch

from model import provenance
from model.data import splits
from model.data.corrections import Corrections
from model.evaluation import metrics
from model.inference import weights
from model.network.predict import digit_probabilities
from model.network.weights import deserialize, serialize
from model.presets import PRESETS, Config
from model.task import DATA_SHA256
from model.training.calibrate import calibrate
from model.training.train import HALF_IS_FAST, Result


@dataclass(frozen=True, eq=False)
class Package:
    """A version: safetensors bytes, the card in them, and probabilities float32 (N, 10) for the N test digits."""

    data: bytes
    card: weights.ModelCard
    test_probabilities: np.ndarray


def build_package(
    config: Config,
    result: Result,
    data: splits.Mnist,
    parent: bytes | None = None,
    corrections: Corrections | None = None,
    again: weights.ModelCard | None = None,
) -> Package:
    """Calibrate the network, measure it in half precision, as it is stored, and write its card.

    `parent` are the bytes of the weights that it was fine-tuned from. `again` is the card of the version that this one
    reproduces: preset's name, settings, command, date, code, libraries and threads are copied from it, so that equal
    networks give equal bytes.
    """
    network, calibration = calibrate(result.network, data.validation)
    card = weights.ModelCard(
        preset=config.preset,
        hidden=network.hidden,
        epochs=config.epochs,
        seed=config.seed,
        data_sha256=DATA_SHA256,
        command=_command(config, parent, corrections),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries=provenance.libraries(),
        validation_accuracy=result.validation_accuracy,
        test_accuracy=None,
        outputs=network.outputs,
        calibration=calibration,
        parent=weights.digest(parent) if parent else None,
        code_sha256=provenance.digest(),
        threads=torch.get_num_threads(),
        corrections=_correction_counts(corrections),
        processes=config.processes,
        split=PRESETS[config.preset].split,
        best_epoch=result.best_epoch,
        gate_unseen=_is_gate_unseen(config, parent),
        settings=_settings(config, corrections),
    )
    if again:
        names = "preset", "settings", "command", "created", "libraries", "code_sha256", "threads"
        card = replace(card, **{name: getattr(again, name) for name in names})
    kept, card = deserialize(serialize(network, card))
    probabilities = digit_probabilities(kept, data.test.images)
    card = replace(
        card,
        validation_accuracy=_accuracy(digit_probabilities(kept, data.validation.images), data.validation),
        gate_accuracy=_accuracy(digit_probabilities(kept, data.gate.images), data.gate),
        test_accuracy=_accuracy(probabilities, data.test),
    )
    return Package(serialize(kept, card), card, probabilities)


def _accuracy(probabilities: np.ndarray, split: splits.Split) -> float:
    return metrics.report(probabilities, split.labels.numpy()).accuracy


def _command(config: Config, parent: bytes | None, corrections: Corrections | None) -> str:
    """Return the command that trains this again; weights to fine-tune are named by the beginning of their SHA-256."""
    command = f"python -m model train --preset {config.preset} --epochs {config.epochs} --seed {config.seed}"
    if config.processes > 1:
        command += f" --processes {config.processes}"
    for name in ("batch_size", "learning_rate", "schedule"):
        if (value := getattr(config, name)) is not None:
            command += f" --{name.replace('_', '-')} {value}"
    if parent:
        command += f" --from {weights.digest(parent)[:12]}.safetensors"
    return f"{command} --corrections corrections.npz" if corrections else command


def _is_gate_unseen(config: Config, parent: bytes | None) -> bool:
    if PRESETS[config.preset].all_digits:
        return False
    return parent is None or weights.read_card(parent).gate_unseen


def _settings(config: Config, corrections: Corrections | None) -> weights.Settings:
    """Return the hyperparameters of the training as they were used; the card has fields of its own for the others."""
    preset = config.effective_preset(correcting=bool(corrections and corrections.to_learn))
    values = asdict(replace(preset, mixed_precision=preset.mixed_precision and HALF_IS_FAST))
    return weights.Settings(**{name: values[name] for name in weights.Settings.__annotations__})  # type: ignore[typeddict-item]


def _correction_counts(corrections: Corrections | None) -> weights.LearntCorrections | None:
    if corrections is None:
        return None
    held_out = int(corrections.held_out.sum())
    return {"learnt": len(corrections) - held_out, "held_out": held_out, "sha256": corrections.digest()}
