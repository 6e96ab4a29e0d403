"""Files of weights: safetensors with a model card in the header (numpy alone; torch is in `model.network.weights`).

Half precision in the file, float32 in memory. The header's metadata holds `format`, `card` (JSON) and `sha256`: the
digest of the card's text followed by the tensors' bytes in the order of their names, which finds any flipped bit.
Reading runs no code from the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le, Len, Predicate
from pydantic import BeforeValidator, TypeAdapter, ValidationError, with_config
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from typing_extensions import TypedDict

from model.inference.decision import UNCALIBRATED, Calibration
from model.task import DIGITS, OUTPUTS, PIXELS

FORMAT = "inkling-mlp-1"
_HEADER_LIMIT = 1_000_000
"""Maximum bytes of a header; the first eight bytes of other files, read as its length, are usually far above it."""


class WeightsError(ValueError):
    """The bytes are not weights that can be used; the message says why in one sentence."""


Count = Annotated[int, Ge(0)]
Width = Annotated[int, Gt(0)]
Share = Annotated[float, Ge(0), Le(1)]
_LATER = {"processes", "split", "best_epoch", "gate_accuracy", "gate_unseen", "settings"}


def _complete(calibration: Any) -> Any:
    """Refuse a calibration without all of its fields: defaults would stand for the missing ones."""
    if not isinstance(calibration, dict) or set(calibration) != set(Calibration.__dataclass_fields__):
        raise ValueError("a calibration has just its figures")
    return calibration


@with_config(extra="forbid")
class LearntCorrections(TypedDict):
    """Numbers of corrections learnt from and held out, and their `Corrections.digest`."""

    learnt: Count
    held_out: Count
    sha256: str


@with_config(strict=True)
class Settings(TypedDict):
    """Hyperparameters of a training, as `model.presets.Preset` describes them; the learning rate is the highest."""

    batch_size: Width
    learning_rate: Annotated[float, Gt(0)]
    schedule: str
    weight_decay: float
    label_smoothing: float
    batch_norm: bool
    all_digits: bool
    deformed: bool
    averaged: bool
    drawn: bool
    mixed_precision: bool


@with_config(strict=True)
@dataclass(frozen=True)
class ModelCard:
    """A model's shape, provenance (`command` trains it again) and accuracy.

    `created` is ISO 8601 in UTC, `libraries` name -> version. Accuracies, 0 to 1, are of the validation and test parts
    of the data with digest `data_sha256`. A network of fourteen `outputs` refuses pictures of no digit; `calibration`
    holds the thresholds of its verdicts, `parent` the SHA-256 of the weights that it was fine-tuned from.
    `code_sha256` (`provenance.digest`), the number of `processes` and that of `threads` in each may change the last
    bit. `split` names the division of MNIST that it was trained by (`task.SPLIT`), `best_epoch` is the epoch kept,
    `gate_accuracy` that on the gate digits, and `gate_unseen` whether neither this training nor that of the weights it
    goes back to has learnt from them. `settings` are the hyperparameters of the training, as they were used. Fields
    with defaults are missing in older cards.
    """

    preset: str
    hidden: Annotated[tuple[Width, ...], Len(1)]
    epochs: Count
    seed: Count
    data_sha256: str
    command: str
    created: str
    libraries: dict[str, str]
    validation_accuracy: Share
    test_accuracy: Share | None
    outputs: Annotated[int, Predicate(OUTPUTS.__contains__)] = DIGITS
    calibration: Annotated[Calibration, BeforeValidator(_complete)] = UNCALIBRATED
    parent: str | None = None
    code_sha256: str | None = None
    threads: Count | None = None
    corrections: LearntCorrections | None = None
    processes: Count = 1
    split: str | None = None
    best_epoch: Count | None = None
    gate_accuracy: Share | None = None
    gate_unseen: bool = False
    settings: Settings | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can carry.

        Fields of later releases are left out at their defaults: a version that lacks them is reproduced byte for byte.
        """
        values = dataclasses.asdict(self) | {"hidden": list(self.hidden)}
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if name not in _LATER or value != defaults[name]}

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Parse a card from a JSON object; unknown fields are left out.

        Raises WeightsError that names the first field that is missing or invalid.
        """
        try:
            return _CARD.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
        match first["type"], first["loc"]:
            case "json_invalid", _:
                told = "it is not JSON"
            case _, ():
                told = "it is not a JSON object"
            case "missing", (name,):
                told = f"{name} is missing"
            case _, (name, *_):
                told = f"{name} cannot be {json.loads(text)[name]!r:.40}"
        raise WeightsError(f"the model card is unreadable: {told}")


_CARD = TypeAdapter(ModelCard)


def pack(arrays: dict[str, np.ndarray], card: ModelCard) -> bytes:
    """Return a file of the tensors, float16 by name, and the card; equal ones give equal bytes.

    Raises WeightsError when a weight is NaN or infinite, or the card does not fit.
    """
    _check_shapes({name: list(array.shape) for name, array in arrays.items()}, card)
    _check_finite(arrays)
    text = json.dumps(card.as_dict(), sort_keys=True, allow_nan=False)
    metadata = {"format": FORMAT, "card": text, "sha256": _checksum(text, arrays)}
    return _with_sorted_header(save_arrays(arrays, metadata))


def unpack(data: bytes) -> tuple[dict[str, np.ndarray], ModelCard]:
    """Return the tensors of a file, float16 by name, and its card, after every check; raises WeightsError."""
    table = _header(data)
    metadata, card = _metadata_and_card(table)
    for name, entry in table.items():  # before the tensors are allocated: a header may claim any size
        if not isinstance(entry, dict) or entry.get("dtype") != "F16":
            raise WeightsError(f"{name} is not stored in half precision")
    _check_shapes({name: entry.get("shape") for name, entry in table.items()}, card)
    try:
        arrays = load_arrays(data)
    except SafetensorError as error:
        raise WeightsError(f"the weights are damaged or cut short ({error})") from error
    if _checksum(metadata["card"], arrays) != metadata.get("sha256"):
        raise WeightsError("the weights are damaged: their SHA-256 is not the one in the header")
    _check_finite(arrays)
    return arrays, card


def read(path: Path | str) -> bytes:
    """Return the bytes of a file of weights, after every check; raises WeightsError that begins with the path."""
    try:
        data = Path(path).read_bytes()
        unpack(data)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    return data


def layers(data: bytes) -> tuple[list[tuple[np.ndarray, np.ndarray]], ModelCard]:
    """Return each layer's weight (outputs, inputs) and bias (outputs,), float16, and the card; raises WeightsError."""
    arrays, card = unpack(data)
    count = len(card.hidden) + 1
    return [(arrays[f"layers.{i}.weight"], arrays[f"layers.{i}.bias"]) for i in range(count)], card


def read_card(data: bytes) -> ModelCard:
    """Return the card alone, without looking at the weights; raises WeightsError."""
    return _metadata_and_card(_header(data))[1]


def digest(data: bytes) -> str:
    """Return the SHA-256 of a whole file of weights, in hex."""
    return hashlib.sha256(data).hexdigest()


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    if length > _HEADER_LIMIT or data[8:9] not in (b"{", b""):
        raise WeightsError("this is not a safetensors file")
    if len(data) < 8 + length or length < 2:
        raise WeightsError("the weights are cut short: the header is not complete")
    try:
        header = json.loads(data[8 : 8 + length].decode())
    except (ValueError, RecursionError) as error:
        raise WeightsError("this is not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise WeightsError("this is not a safetensors file: its header is not a JSON object")
    return header


def _metadata_and_card(header: dict[str, Any]) -> tuple[dict[str, Any], ModelCard]:
    """Remove the metadata from a header, leaving the table of tensors; return the metadata and the card in it."""
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise WeightsError(f"these are not Inkling's weights: the header does not say {FORMAT}")
    if "card" not in metadata:
        raise WeightsError("the weights carry no model card")
    return metadata, ModelCard.from_json(str(metadata["card"]))


def _check_shapes(shapes: dict[str, Any], card: ModelCard) -> None:
    widths = (PIXELS, *card.hidden, card.outputs)
    expected: dict[str, list[int]] = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        expected |= {f"layers.{i}.weight": [outputs, inputs], f"layers.{i}.bias": [outputs]}
    faults = [f"{name} is missing" for name in expected if name not in shapes]
    faults += [f"{name} is unexpected" for name in shapes if name not in expected]
    faults += [
        f"{name} has shape {shapes[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    if faults:
        more = f" and {len(faults) - 6} more" if len(faults) > 6 else ""
        hidden = str(list(card.hidden))[:60]
        raise WeightsError(f"the weights do not fit an MLP {hidden}: {', '.join(faults[:6])}{more}")


def _check_finite(arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{name} holds a value that is NaN, infinite or beyond half precision")


def _checksum(card_text: str, arrays: dict[str, np.ndarray]) -> str:
    seal = hashlib.sha256(card_text.encode())
    for name in sorted(arrays):
        seal.update(arrays[name].tobytes())
    return seal.hexdigest()


def _with_sorted_header(data: bytes) -> bytes:
    """Return the file with the keys of its header sorted: safetensors writes the metadata in random order."""
    start = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(_header(data), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]
