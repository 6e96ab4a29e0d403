"""From a finished training to a version: the weights' bytes with their card, measured as they are kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from model.presets import Config
from model.task import DATA_SHA256
from model.training.calibrate import calibrate
from model.training.train import Result


@dataclass(frozen=True, eq=False)
class Package:
    """A version ready to be stored: safetensors bytes, the card in them, and float32 (N, 10) for the N test digits."""

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
    """Calibrates the network, measures it once on the test set, in the half precision in which it is kept, and writes
    its card. `parent` are the weights that fine-tuning went on from, as a file's bytes. `again` is the card of the
    version that this one repeats: its preset's name, command, date, code, libraries and threads are taken over, so that
    equal networks make equal bytes.
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
        corrections=_in_numbers(corrections),
        processes=config.processes,
    )
    if again:
        names = "preset", "command", "created", "libraries", "code_sha256", "threads"
        card = replace(card, **{name: getattr(again, name) for name in names})
    kept, card = deserialize(serialize(network, card))
    probabilities = digit_probabilities(kept, data.test.images)
    report = metrics.report(probabilities, data.test.labels.numpy())
    card = replace(card, test_accuracy=report.accuracy)
    return Package(serialize(kept, card), card, probabilities)


def _command(config: Config, parent: bytes | None, corrections: Corrections | None) -> str:
    """What trains this again; the weights to fine-tune are named by the beginning of their SHA-256."""
    command = f"python -m model train --preset {config.preset} --epochs {config.epochs} --seed {config.seed}"
    if config.processes > 1:
        command += f" --processes {config.processes}"
    if parent:
        command += f" --from {weights.digest(parent)[:12]}.safetensors"
    return f"{command} --corrections corrections.npz" if corrections else command


def _in_numbers(corrections: Corrections | None) -> weights.LearntCorrections | None:
    if corrections is None:
        return None
    held_out = int(corrections.held_out.sum())
    return {"learnt": len(corrections) - held_out, "held_out": held_out, "sha256": corrections.digest()}
