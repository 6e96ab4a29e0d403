"""Everything is killed at once, at any moment of its work, and nothing that was acknowledged is lost."""

import hashlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from sqlalchemy import select, text

from model.data import mnist
from tests.conftest import TOKEN
from tests.support.administrator import SCRIPT
from tests.support.corrections import digits
from tests.support.requests import data_url
from tests.support.servers import free_port
from tests.support.versions import add_version, promotions, turned
from tests.support.whole import ROUND
from webapp.corrections.digit_files import picture_of
from webapp.settings import ROOT
from webapp.storage.engine import Database
from webapp.storage.schema import Correction, Promotion, Run, champion_id

JSON = {"Content-Type": "application/json"}
START_SECONDS = 60
# How long a round goes on after its first acknowledged correction and promotion, at most.
ROUNDS = 200
ROUND_SECONDS = 1.0


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_installation_killed_keeps_what_was_acknowledged(settings, database, tmp_path):
    add_version(database, turned(1))
    chance, acknowledged = random.Random(ROUNDS), Acknowledged()
    with Whole(settings, tmp_path / "log") as whole:
        for number in range(ROUNDS):
            whole.start(f"{tmp_path.name}-{number}")
            with Load(whole.port, acknowledged, number) as load:
                load.wait_until_all_is_under_way()
                time.sleep(chance.uniform(0, ROUND_SECONDS))
                whole.kill()
            acknowledged.check(database, settings.data_dir)
            print(f"\rround {number + 1} of {ROUNDS}: {acknowledged}", end="", flush=True)
        whole.start(f"{tmp_path.name}-last")
        assert_all_is_well(whole.port, database, acknowledged)
    print(f"\n{ROUNDS} rounds: {acknowledged}, all of it there")
    assert '"exception"' not in whole.log.read_text() and "Traceback" not in whole.log.read_text()


class Acknowledged:
    """What was asked for, and what was answered with success and must be there."""

    def __init__(self):
        self.corrections: dict[str, int] = {}  # meaning by the receipt's secret
        self.deleted: set[str] = set()
        self.asked_to_delete: set[str] = set()
        self.approved: set[int] = set()  # by number
        self.promotions: list[str] = []  # reasons, in order
        self.asked_promotions: set[str] = set()
        self.runs: set[int] = set()
        self.cancelled: set[int] = set()

    def __str__(self):
        return (
            f"{len(self.corrections):,} corrections, {len(self.deleted):,} deletions, {len(self.approved):,} "
            f"approvals, {len(self.promotions):,} promotions and {len(self.runs):,} runs acknowledged"
        )

    def check(self, database: Database, folder: Path) -> None:
        for path in (folder / "inkling.db", folder / "queue.db"):
            if path.exists():
                with closing(sqlite3.connect(path)) as connection:
                    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], path
        with database.reading() as session:
            assert session.execute(text("PRAGMA foreign_key_check")).all() == []
            rows = session.execute(select(Correction.receipt_sha256, Correction.meant, Correction.id, Correction.state))
            kept = {receipt: (meant, number, state) for receipt, meant, number, state in rows}
            chain = session.scalars(select(Promotion).order_by(Promotion.id)).all()
            runs = {run.id: run for run in session.scalars(select(Run))}
            champion = champion_id(session)
        self._check_corrections(kept)
        reasons = [promotion.why for promotion in chain if promotion.by == "script"]
        assert [why for why in reasons if why in self.promotions] == self.promotions
        assert set(reasons) <= self.asked_promotions
        assert champion == chain[-1].version_id
        assert all(after.from_id == before.version_id for before, after in itertools.pairwise(chain))
        assert self.runs <= set(runs)
        assert sum(run.state in ("queued", "running") for run in runs.values()) <= 1
        assert all(runs[number].cancel_requested or runs[number].ended_at for number in self.cancelled)

    def _check_corrections(self, kept: dict[str, tuple[int, int, str]]) -> None:
        for secret, meant in self.corrections.items():
            row = kept.get(hashlib.sha256(secret.encode()).hexdigest())
            if secret in self.deleted:
                assert row is None, "a deleted correction is there again"
            elif secret not in self.asked_to_delete:
                assert row is not None and row[0] == meant, "an acknowledged correction is lost"
        states = {number: state for _, number, state in kept.values()}
        assert all(states.get(number, "approved") == "approved" for number in self.approved)


class Whole:
    """Web, worker and trainers of an installation, started and killed together."""

    def __init__(self, settings, log: Path):
        self.port = free_port()
        self.log, self.name, self.leader = log, "", 0
        environ = os.environ | {
            "DATA_DIR": str(settings.data_dir),
            "MNIST_DIR": str(mnist.default_folder()),
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "2",
            "ADMIN_TOKEN": TOKEN,
            "HTTPS": "1",  # so that each correction can come from an address of its own
        }
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.whole"],
                cwd=ROOT, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.leader:
            with suppress(ProcessLookupError):
                os.killpg(self.leader, signal.SIGTERM)
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def start(self, name: str) -> None:
        self.name = name
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        self.leader = int(self.process.stdout.readline())

    def kill(self) -> None:
        """Kills all of them by SIGKILL: the group first, so that nobody starts another trainer."""
        with suppress(ProcessLookupError):
            os.killpg(self.leader, signal.SIGKILL)
        mark = f"{ROUND}={self.name}\0".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)


class Load:
    """Clients that ask for writes until nobody answers any more."""

    def __init__(self, port: int, acknowledged: Acknowledged, number: int):
        self.port, self.acknowledged, self.number = port, acknowledged, number
        self.corrected, self.promoted, self.over = threading.Event(), threading.Event(), threading.Event()
        self.pool = ThreadPoolExecutor(5)

    def __enter__(self):
        works = [self.correct, self.correct, self.promote, self.train, self.review]
        self.futures = [self.pool.submit(self._until_over, work, place) for place, work in enumerate(works)]
        return self

    def __exit__(self, kind, *_):
        self.over.set()
        wait(self.futures)
        self.pool.shutdown()
        if kind is None:
            for future in self.futures:
                future.result()

    def wait_until_all_is_under_way(self) -> None:
        assert self.corrected.wait(START_SECONDS) and self.promoted.wait(START_SECONDS), "nothing was acknowledged"

    def _until_over(self, work, place: int) -> None:
        for count in itertools.count():
            if self.over.is_set():
                return
            try:
                work(place, count)
            except (OSError, HTTPException):
                self.over.wait(0.02)  # not there yet, or not there any more

    def ask(self, method: str, path: str, body: dict | None = None, headers=()) -> tuple[int, dict]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body and json.dumps(body), JSON | SCRIPT | dict(headers))
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status < 500, data
            return answer.status, json.loads(data) if data else {}
        finally:
            connection.close()

    def correct(self, place: int, count: int) -> None:
        """Sends a correction from an address of its own, and deletes every eighth."""
        number = self.number * 10_000 + place * 5_000 + count
        (image, label), = digits(1, number % 9_000)  # fmt: skip
        sender = {"X-Forwarded-For": str(IPv4Address("10.0.0.0") + number)}
        status, kept = self.ask("POST", "/feedback", {"image": data_url(picture_of(image)), "meant": label}, sender)
        assert status == 201, kept
        secret = kept["receipt"].rpartition("/")[2]
        self.acknowledged.corrections[secret] = label
        self.corrected.set()
        if count % 8 == 7:
            self.acknowledged.asked_to_delete.add(secret)
            if self.ask("DELETE", kept["receipt"])[0] == 204:
                self.acknowledged.deleted.add(secret)

    def promote(self, place: int, count: int) -> None:
        """Puts the version into service that is not; one that is there already would leave no row."""
        listed = self.ask("GET", "/admin/versions")[1]["versions"]
        other = next(version["url"] for version in listed if not version["answers"])
        reason = f"round {self.number}, promotion {count}"
        self.acknowledged.asked_promotions.add(reason)
        status, _ = self.ask("POST", f"{other}/promote", {"reason": reason})
        assert status == 200
        self.acknowledged.promotions.append(reason)
        self.promoted.set()

    def train(self, place: int, count: int) -> None:
        """Starts a run where there is none, and now and then cancels it."""
        status, run = self.ask("POST", "/admin/retrain", {"preset": "basic", "epochs": 1000})
        if status == 202:
            self.acknowledged.runs.add(run["id"])
        if count % 20 == 10 and self.number % 4 == 3 and self.acknowledged.runs:
            latest = max(self.acknowledged.runs)
            if self.ask("POST", f"/admin/runs/{latest}/cancel", {})[0] == 202:
                self.acknowledged.cancelled.add(latest)
        self.over.wait(0.05)

    def review(self, place: int, count: int) -> None:
        _, queue = self.ask("GET", "/admin/corrections")
        numbers = [row["id"] for row in queue["corrections"]][:3]
        if numbers:
            _, done = self.ask("POST", "/admin/corrections/decide", {"action": "approve", "ids": numbers})
            self.acknowledged.approved |= set(done["decided"])
        self.over.wait(0.1)


def assert_all_is_well(port: int, database: Database, acknowledged: Acknowledged) -> None:
    """The installation comes up by itself, and what was kept is seen through it."""
    load = Load(port, acknowledged, 0)
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            if load.ask("GET", "/healthz")[0] == 200:
                break
        except (OSError, HTTPException):
            assert time.monotonic() < end, "it did not start again"
            time.sleep(0.05)
    assert load.ask("GET", "/readyz")[1]["status"] == "ok"
    (image, _), = digits(1)  # fmt: skip
    answer = load.ask("POST", "/predict", {"image": data_url(picture_of(image))})[1]
    assert answer["version"] == f"v{promotions(database)[-1]}"
    for secret, meant in list(acknowledged.corrections.items())[-20:]:
        status, receipt = load.ask("GET", f"/receipts/{secret}")
        if secret not in acknowledged.asked_to_delete:
            assert (status, receipt["meant"]) == (200, meant)
