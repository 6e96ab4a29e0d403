"""Hands damaged pictures to the decoder and damaged requests to the application, and measures what each takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from flask.testing import FlaskClient

from model.imaging.decode import PictureError
from model.imaging.writing import find_writing
from tests.conftest import settings_in
from tests.support.mutation import picture_case, request_case
from tests.support.requests import INTERNALS
from webapp.app import create_app
from webapp.services import services
from webapp.setup.install import set_up

MOST_SECONDS = 10.0  # of processor time: what takes longer hangs
CHUNK = 500

# What was wrong with one case, if anything, and the processor time that it took, in seconds.
Try = Callable[[int], tuple[str | None, float]]


@dataclass
class Outcome:
    """What cases came to: how many there were, the slowest one's processor time and number, the faults by number."""

    count: int = 0
    slowest: tuple[float, int] = (0.0, -1)
    faults: dict[int, str] = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        self.count += other.count
        self.slowest = max(self.slowest, other.slowest)
        self.faults |= other.faults


def examined(try_one: Try, numbers: Iterable[int]) -> Outcome:
    outcome = Outcome()
    for number in numbers:
        fault, seconds = try_one(number)
        if seconds > MOST_SECONDS:
            fault = fault or f"took {seconds:.3f} s"
        outcome.add(Outcome(1, (seconds, number), {number: fault} if fault else {}))
    return outcome


def try_picture(seed: int, number: int, files: tuple[bytes, ...] | None = None) -> tuple[str | None, float]:
    return read(picture_case(seed, number, files).damaged())


def read(data: bytes) -> tuple[str | None, float]:
    """What was wrong with how this picture was met, if anything, and the processor time that it took."""
    began, fault = time.process_time(), None
    try:
        image = find_writing(data).digit_image()
        if image is not None and (image.dtype != np.uint8 or image.shape != (28, 28) or not image.any()):
            fault = f"gave an image {image.dtype} {image.shape}"
    except PictureError as error:
        if not str(error).endswith(".") or "\n" in str(error):
            fault = f"is refused by no sentence: {error}"
    except Exception as error:
        fault = f"raised {error!r}"
    return fault, time.process_time() - began


def try_request(client: FlaskClient, seed: int, number: int) -> tuple[str | None, float]:
    request = request_case(seed, number)
    began = time.process_time()
    answer = client.post(request.path, data=request.body, content_type=request.content_type)
    return _fault(answer), time.process_time() - began


def _fault(answer) -> str | None:
    """What is wrong with an answer that should be a reading, a receipt or an error of ours."""
    told = answer.get_json(silent=True)
    error = told.get("error", {}) if isinstance(told, dict) else {}
    expected = answer.status_code in (200, 201) or 400 <= answer.status_code < 500 and {"code", "message"} <= set(error)
    if told is None or not expected or INTERNALS.search(answer.text):
        return f"is answered {answer.status_code} {answer.text[:200]}"
    return None


def in_processes(kind: str, seed: int, count: int, processes: int, tell: Callable[[Outcome], None]) -> Outcome:
    """The outcome of cases 0 to `count` over several processes; `tell` hears of what there is so far."""
    outcome = Outcome()
    with (
        tempfile.TemporaryDirectory(prefix="inkling-fuzz-") as folder,
        ProcessPoolExecutor(processes, get_context("spawn"), _begin, (kind, seed, folder)) as pool,
    ):
        waiting = [pool.submit(_examined_here, first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
        for done in as_completed(waiting):
            outcome.add(done.result())
            tell(outcome)
    return outcome


def _begin(kind: str, seed: int, folder: str) -> None:
    """Makes a process ready: for requests with an installation of its own."""
    global _try_one
    torch.set_num_threads(1)
    if kind == "pictures":
        _try_one = partial(try_picture, seed)
        return
    settings = settings_in(Path(tempfile.mkdtemp(dir=folder)))
    set_up(settings, say=lambda line: None)
    app = create_app(settings)
    services(app).active_model.classifier().warm()
    _try_one = partial(try_request, app.test_client(), seed)


def _examined_here(first: int, end: int) -> Outcome:
    return examined(_try_one, range(first, end))
