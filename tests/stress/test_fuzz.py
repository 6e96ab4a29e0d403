"""Damaged pictures and requests by the million: read, or refused in a sentence."""

import os
import random
import sys
import time
from functools import partial

import pytest

from tests.support.fuzzing import Outcome, examined, in_processes, try_picture, try_request
from tests.support.mutation import files_decoded_apart
from webapp.services import services

PICTURES = 900_000
REQUESTS = 100_000


def test_pictures_damaged_are_read_or_refused():
    assert_sound(examined(partial(try_picture, 1), range(500)), "pictures", 1)


def test_pictures_damaged_and_decoded_apart_are_read_or_refused():
    assert_sound(examined(partial(try_picture, 1, files=files_decoded_apart()), range(40)), "pictures", 1)


def test_requests_damaged_are_answered_or_refused(app, client):
    services(app).active_model.classifier().warm()
    assert_sound(examined(partial(try_request, client, 1), range(100)), "requests", 1)


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "count"), [("pictures", PICTURES), ("requests", REQUESTS)])
def test_damaged_million_is_answered_or_refused(kind, count):
    """SEED, an environment variable, repeats a run; SHARE does a part of it."""
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    count = int(count * float(os.environ.get("SHARE") or 1))
    print(f"\n{count:,} {kind}, SEED={seed}")
    outcome = in_processes(kind, seed, count, os.cpu_count() or 1, Told(count).tell)
    print()
    assert_sound(outcome, kind, seed)


def assert_sound(outcome: Outcome, kind: str, seed: int) -> None:
    faults = [f"{kind} of SEED={seed}, number {number}: {fault}" for number, fault in outcome.faults.items()]
    assert not faults, "\n".join(faults[:50])


class Told:
    """A line that tells how far it is."""

    def __init__(self, count: int):
        self.count, self.began, self.told = count, time.monotonic(), 0.0

    def tell(self, outcome: Outcome) -> None:
        now = time.monotonic()
        if now - self.told < 1 and outcome.count < self.count:
            return
        self.told = now
        seconds, number = outcome.slowest
        sys.stdout.write(
            f"\r{outcome.count:,} of {self.count:,}, {outcome.count / (now - self.began):,.0f} a second, the slowest "
            f"{1000 * seconds:.0f} ms (number {number}), {len(outcome.faults)} faults "
        )
        sys.stdout.flush()
