"""Measure the cost of many corrections: python -m benchmarks.many_corrections [COUNT ...] [--database URL]

Fills a temporary installation with COUNT corrections (default: 1,000, 10,000 and 100,000), all but 2,000 of them
approved, and measures at each size: the database, sending a correction, finding a receipt, the pages of the review, the
preparation of a run, and the migration of an earlier release's schema. Digit images are MNIST's training digits with
different noise, so that none is a duplicate.
The database is SQLite in a temporary folder unless --database names an empty one.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import alembic.command
import alembic.config
import numpy as np
from flask.testing import FlaskClient
from sqlalchemy import func, insert, select, text
from tqdm import tqdm

from model.data import mnist, splits
from model.presets import Config
from webapp.app import create_app
from webapp.corrections.digit_files import picture_of
from webapp.corrections.store import Corrections
from webapp.services import services
from webapp.settings import Settings
from webapp.setup.install import set_up
from webapp.storage.compatibility import MIGRATIONS
from webapp.storage.engine import Database
from webapp.storage.schema import Correction
from webapp.training import runs
from webapp.worker.training_run import chosen_corrections

COUNTS = (1_000, 10_000, 100_000)
WAITING = 2_000
AT_ONCE = 1_000
TIMES = 9
PER_PAGE = 48
EARLIER = "0007"  # before two columns of corrections, one of them filled in, with their indexes
TOKEN = secrets.token_hex(16)
SCRIPT = {"Authorization": f"Bearer {TOKEN}"}


class Digits:
    """An endless supply of different digits: MNIST's training digits with random noise on their ink."""

    def __init__(self, folder: Path):
        split = splits.load(folder).train
        self.images, self.labels = split.images.numpy(), split.labels.numpy()
        self.random = np.random.default_rng(0)

    def __call__(self, count: int) -> Iterator[tuple[np.ndarray, int]]:
        for place in self.random.integers(0, len(self.labels), count):
            image = self.images[place].astype(np.int16)
            noise = self.random.integers(-60, 61, image.shape, dtype=np.int16)
            yield np.where(image > 0, image + noise, 0).clip(0, 255).astype(np.uint8), int(self.labels[place])


def row(image: np.ndarray, label: int, number: int) -> dict:
    waits = number < WAITING
    return {
        "created_at": time.time() - 86_400 * 30,  # outside the limits of the last hour and day
        "submitter": f"{number // 20:032x}",
        "hand": f"{number // 20:032x}",
        "receipt_sha256": secrets.token_hex(32),
        "meant": label,
        "label": label,
        "digit_image": image.tobytes(),
        "picture": picture_of(image),
        "answered": {"verdict": "digit", "digits": [label], "reason": None, "top": [], "not_a_digit": 0.001},
        "version_id": 1,
        "held_out": number // 20 % 5 == 4,
        "state": "received" if waits else "approved",
        "decided_at": 0.0 if waits else time.time(),
        "suspicion": 0.5 if waits else 0.1,
    }


def fill(database: Database, digits: Digits, count: int) -> None:
    """Add corrections until there are `count`."""
    with database.reading() as session:
        there = session.scalars(select(func.count()).select_from(Correction)).one()
    with tqdm(total=count, initial=there, unit=" corrections", leave=False) as bar:
        while there < count:
            part = [row(*digit, there + place) for place, digit in enumerate(digits(min(AT_ONCE, count - there)))]
            with database.writing() as session:
                session.execute(insert(Correction), part)
            there += len(part)
            bar.update(len(part))


def milliseconds(action: Callable[[], object], times: int = TIMES) -> float:
    """Return the median time of several calls, after one that is not counted."""
    action()
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1e3


def megabytes(database: Database) -> float:
    with database.reading() as session:
        if database.engine.dialect.name == "sqlite":
            pages, size = (session.scalars(text(f"PRAGMA page_{what}")).one() for what in ("count", "size"))
            return pages * size / 1e6
        return session.scalars(text("SELECT pg_database_size(current_database())")).one() / 1e6


def page(client: FlaskClient, state: str, number: int) -> Callable[[], None]:
    def ask() -> None:
        response = client.get(f"/admin/corrections?state={state}&page={number}", headers=SCRIPT)
        assert response.status_code == 200, response.text

    return ask


def one_run(database: Database) -> tuple[float, float]:
    """Return the seconds to choose a run's corrections, and to read them as the trainer does."""
    run = runs.start(database, Config("fine-tune"), "benchmark", corrections=True)
    begun = time.perf_counter()
    attempt = runs.claim(database, run.id)
    assert attempt is not None
    chosen = time.perf_counter()
    with database.reading() as session:
        corrections = chosen_corrections(session, run.id)
        if corrections:  # none while all of them wait for review
            corrections.to_learn.digest()
    read = time.perf_counter()
    runs.Lease(database, run.id, attempt).end("cancelled")
    return chosen - begun, read - chosen


def migration(database: Database) -> float:
    """Return the seconds to bring an earlier release's schema up to date."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.downgrade(config, EARLIER)
    begun = time.perf_counter()
    database.upgrade()
    return time.perf_counter() - begun


def measure(app, settings: Settings, digits: Digits, count: int) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the measurements at one size."""
    database, client = services(app).database, app.test_client()
    fill(database, digits, count)
    yield "database", f"{megabytes(database):,.0f} MB"
    corrections, kept = Corrections(database, settings), []

    def send() -> None:
        image, label = next(digits(1))
        address = str(IPv4Address(int.from_bytes(secrets.token_bytes(3)) + (10 << 24)))
        kept.append(corrections.add(picture_of(image), image, label, {}, 1, address, address))

    yield "a correction is kept", f"{milliseconds(send):.1f} ms"
    yield "a receipt is found", f"{milliseconds(lambda: corrections.find_by_receipt(kept[0].secret)):.1f} ms"
    for one in kept:
        corrections.delete(one.correction.id)
    last = max(1, (count - WAITING) // PER_PAGE)
    yield "review, waiting, first page", f"{milliseconds(page(client, 'received', 1)):.0f} ms"
    yield "review, approved, first page", f"{milliseconds(page(client, 'approved', 1)):.0f} ms"
    yield "review, approved, last page", f"{milliseconds(page(client, 'approved', last)):.0f} ms"
    chosen, read = one_run(database)
    yield "a run chooses them", f"{chosen:.2f} s"
    yield "and reads them", f"{read:.2f} s"
    yield f"the schema is migrated from {EARLIER}", f"{migration(database):.1f} s"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS, metavar="COUNT")
    parser.add_argument("--database", metavar="URL", help="default: SQLite in a temporary folder")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        own = {"DATA_DIR": folder, "ADMIN_TOKEN": TOKEN, "MNIST_DIR": os.environ.get("MNIST_DIR", "")}
        own["MNIST_DIR"] = own["MNIST_DIR"] or str(mnist.default_folder())
        if args.database:
            own["DATABASE_URL"] = args.database
        settings = dataclasses.replace(Settings.read(own), admin_password=secrets.token_hex(8))
        set_up(settings, lambda line: None)
        app, digits = create_app(settings), Digits(settings.mnist_dir)
        found = {count: dict(measure(app, settings, digits, count)) for count in sorted(args.counts)}
        services(app).database.close()
    print("| | " + " | ".join(f"{count:,}" for count in found) + " |")
    print("|---|" + "---|" * len(found))
    for what in next(iter(found.values())):
        print(f"| {what} | " + " | ".join(figures[what] for figures in found.values()) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
