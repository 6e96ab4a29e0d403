"""Everything at once for a while: predictions, corrections, trainings and promotions, without an error or growth."""

import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from tests.conftest import TOKEN
from tests.support import gunicorn
from tests.support.administrator import BROWSER, SCRIPT
from tests.support.corrections import digits
from tests.support.gunicorn import serve
from tests.support.requests import ONE, data_url
from tests.support.versions import add_version, turned
from webapp.corrections.digit_files import picture_of
from webapp.settings import ROOT
from webapp.storage.engine import Database
from webapp.storage.schema import Artifact, Checkpoint, Correction, Promotion, Run, Version

JSON = {"Content-Type": "application/json"}
SECONDS = 600
PREDICTORS = 2
PAUSE_SECONDS = 0.02  # between the predictions of one client
MOST_RUN_SECONDS = 60


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_installation_under_everything_makes_no_error_and_does_not_grow(settings, database, tmp_path, monkeypatch):
    monkeypatch.setattr(gunicorn, "ANSWER_SECONDS", 60)  # on a busy machine; how long it takes is told
    add_version(database, turned(1))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environ = {"ADMIN_TOKEN": TOKEN, "HTTPS": "1", "TMPDIR": str(temporary)}
    with serve(settings.data_dir, **environ) as server, working(settings, tmp_path / "worker.log", environ) as worker:
        soak = Soak(server, database, lambda: {server.process.pid, worker.pid, *server.workers()})
        soak.warm_up()
        soak.run(SECONDS)
        soak.assert_nothing_grew()
    explain_size(settings.data_dir / "inkling.db", database)
    assert not [path for path in temporary.rglob("*") if path.is_file()], "temporary files are left"
    left = {path.name for path in settings.data_dir.iterdir() if path.is_file() and path.stat().st_size}
    assert left <= {"inkling.db", "inkling.db-reserve", "queue.db", "secret_key"}
    for log in (server.log, tmp_path / "worker.log"):
        assert not faults_in(log), faults_in(log)


@contextmanager
def working(settings, log: Path, environ: dict[str, str]):
    """A worker process, ended in order."""
    own = {"DATA_DIR": str(settings.data_dir), "MNIST_DIR": str(settings.mnist_dir), **environ}
    with log.open("wb") as file:
        command = [sys.executable, "-m", "webapp", "worker"]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(60) == 0


@dataclass(frozen=True)
class Sample:
    """What the processes of web and worker have at a moment; trainings, which come and go, are not among them."""

    megabytes: float
    files: int
    threads: int


@dataclass
class Soak:
    """The clients, and what they and the processes were seen to do."""

    server: object
    database: Database
    processes: Callable[[], set[int]]
    took: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def warm_up(self) -> None:
        """Every route once in each worker, so that what stays loaded is loaded."""
        for _ in range(20):
            self.predict()
            self.look()

    def run(self, seconds: float) -> None:
        works = [(self.predict, PAUSE_SECONDS)] * PREDICTORS
        works += [(self.correct, 1.0), (self.train, 1.0), (self.promote, 3.0), (self.look, 2.0), (self.review, 5.0)]
        began = time.monotonic()
        with ThreadPoolExecutor(len(works)) as pool:
            futures = [pool.submit(self._again_and_again, work, pause) for work, pause in works]
            try:
                self._watch(began, seconds, futures)
            finally:
                self.over.set()
        for future in futures:
            future.result()
        assert {"corrections", "runs", "promotions", "pages", "reviews"} <= set(self.done)

    def _again_and_again(self, work: Callable[[], object], pause: float) -> None:
        while not self.over.is_set():
            work()
            self.over.wait(pause)

    def _watch(self, began: float, seconds: float, futures: list) -> None:
        """Takes a sample each second, and says each minute how it goes; until a run has finished, if that is longer."""
        told = 0
        for minute in itertools.count(1):
            while time.monotonic() < min(began + 60 * minute, began + seconds) or self._first_run_is_under_way():
                if any(future.done() for future in futures):
                    return
                self.over.wait(1)
                self.samples.append(self._sample())
            self._tell(minute, told)
            told = len(self.took)
            if time.monotonic() >= began + seconds:
                return

    def _first_run_is_under_way(self) -> bool:
        with self.database.reading() as session:
            first = session.get(Run, 1)
        return first is None or first.ended_at is None

    def _tell(self, minute: int, told: int) -> None:
        took, now = sorted(self.took[told:]), self.samples[-1]
        p50, p99 = (1000 * took[int(len(took) * share)] for share in (0.5, 0.99))
        done = ", ".join(f"{count:,} {name}" for name, count in sorted(self.done.items()))
        print(
            f"\nminute {minute}: {len(took):,} predictions, half of them in {p50:.0f} ms, 99 % in {p99:.0f} ms; "
            f"{now.megabytes:.0f} MB, {now.files} files, {now.threads} threads; so far {done}", end="", flush=True,
        )  # fmt: skip

    def _sample(self) -> Sample:
        megabytes, files, threads = 0.0, 0, 0
        for pid in self.processes():
            process = Path(f"/proc/{pid}")
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
            megabytes += int(status["VmRSS"].split()[0]) / 1024
            threads += int(status["Threads"])
            files += len(os.listdir(process / "fd"))
        return Sample(megabytes, files, threads)

    def assert_nothing_grew(self) -> None:
        """Compares the second fifth with the last."""
        fifth = max(1, len(self.samples) // 5)
        early, late = self.samples[fifth : 2 * fifth], self.samples[-fifth:]
        before, after = (statistics.median(one.megabytes for one in part) for part in (early, late))
        print(f"\nmemory of web and worker: {before:.0f} MB in the second fifth, {after:.0f} MB in the last")
        assert after < before * 1.03 + 10
        # A connection or a computation more or less may be open at a moment.
        assert statistics.median(one.files for one in late) <= max(one.files for one in early) + 8
        assert statistics.median(one.threads for one in late) <= max(one.threads for one in early) + 4

    # What the clients do

    def ask(self, method: str, path: str, body: dict | None = None, *, expected=(200,), headers=()):
        data = None if body is None else json.dumps(body).encode()
        answer = self.server.request(method, path, data, JSON | SCRIPT | dict(headers))
        assert answer.status in expected, (method, path, answer.status, answer.body[:500])
        return answer

    def count(self, what: str) -> int:
        self.done[what] = self.done.get(what, 0) + 1
        return self.done[what]

    def predict(self) -> None:
        """A reading is that of the version that it names: v2 reads each digit as the next one."""
        began = time.perf_counter()
        answer = json.loads(self.ask("POST", "/predict", ONE).body)
        self.took.append(time.perf_counter() - began)
        assert answer["digits"] == [2 if answer["version"] == "v2" else 1], answer

    def correct(self) -> None:
        number = self.count("corrections")
        (image, label), = digits(1, number)  # fmt: skip
        sender = {"X-Forwarded-For": str(IPv4Address("10.0.0.0") + number)}
        body = {"image": data_url(picture_of(image)), "meant": label}
        receipt = json.loads(self.ask("POST", "/feedback", body, expected=(201,), headers=sender).body)["receipt"]
        self.ask("GET", receipt)
        if number % 4 == 0:
            self.ask("DELETE", receipt, expected=(204,))
            self.count("deletions")

    def train(self) -> None:
        """One run after the other; the first learns from no corrections, since none is approved yet."""
        with self.database.reading() as session:
            approved = session.scalar(select(Correction.id).where(Correction.state == "approved").limit(1))
            latest = session.scalar(select(Run).order_by(Run.id.desc()).limit(1))
        if latest and not latest.ended_at:
            return
        if latest:
            assert latest.state == "finished", (latest.state, latest.error)
            if time.time() < latest.created_at + MOST_RUN_SECONDS:
                return
        asked = {"preset": "basic", "epochs": 1, "corrections": approved is not None}
        self.ask("POST", "/admin/retrain", asked, expected=(202,))
        self.count("runs")

    def promote(self) -> None:
        """Puts v1 and v2 into service by turns."""
        version = 1 + self.count("promotions") % 2
        self.ask("POST", f"/admin/versions/{version}/promote", {"reason": "by turns"})

    def look(self) -> None:
        self.count("pages")
        for path in ("/", "/gallery?outcome=wrong", "/admin/promotions", "/metrics", "/healthz", "/readyz"):
            self.ask("GET", path, headers=BROWSER)

    def review(self) -> None:
        queue = json.loads(self.ask("GET", "/admin/corrections").body)
        numbers = [row["id"] for row in queue["corrections"]][:10]
        if numbers:
            self.ask("POST", "/admin/corrections/decide", {"action": "approve", "ids": numbers})
        self.count("reviews")


def explain_size(path: Path, database: Database) -> None:
    """The file is no larger than what is in it makes it: rows, a part for their pages, and pages that were freed."""
    parts = {
        "versions": func.sum(func.length(Version.weights)) + func.sum(func.length(Version.card)),
        "predictions": func.sum(func.length(Artifact.result)),
        "checkpoints": func.sum(func.length(Checkpoint.data)),
        "corrections": func.sum(func.length(Correction.picture) + func.length(Correction.digit_image) + 1500),
        "promotions": func.count(Promotion.id) * 100,
    }
    with database.reading() as session:
        sizes = {name: session.scalar(select(size)) or 0 for name, size in parts.items()}
        freed = session.scalar(text("PRAGMA freelist_count")) * session.scalar(text("PRAGMA page_size"))
    told = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
    print(f"\nthe database: {path.stat().st_size / 1e6:.1f} MB: {told}, freed {freed / 1e6:.1f} MB")
    assert path.stat().st_size < 1.2 * sum(sizes.values()) + freed + 2_000_000


def faults_in(log: Path) -> list[str]:
    """The lines of a log that tell of an error, or are not one of ours."""
    return [
        line for line in log.read_text().splitlines()
        if not line.startswith("{") or json.loads(line)["level"] in ("error", "critical") or "exception" in line
    ]  # fmt: skip
