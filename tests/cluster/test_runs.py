"""Retraining over two workers: one run at a time, done once, whatever happens to who does it."""

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests.support.cluster import SCRIPT, descendants
from tests.support.servers import wait_until
from webapp.storage.schema import ACTIVE, Artifact, Checkpoint, Run, Version
from webapp.training.runs import LEASE_SECONDS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RUN_SECONDS = 240  # trainers give way to whatever else goes on, so that it can take them long


@pytest.fixture(autouse=True)
def nothing_left(cluster):
    """No run goes on after its test; and what one has made need not be measured, which takes longer than the run."""
    yield
    for worker in cluster.workers:
        for pid in descendants(worker.process.pid):
            os.kill(pid, signal.SIGKILL)
    with cluster.database.writing() as session:
        session.execute(update(Run).where(Run.state.in_(ACTIVE)).values(state="cancelled", ended_at=time.time()))
        session.execute(update(Artifact).where(Artifact.fraction < 1).values(error="not in this test"))


def start(cluster, epochs: int, address="127.0.0.1"):
    """The answer to asking for a run, as often as a busy server says to ask again."""
    while True:
        answer = cluster.ask("POST", "/admin/retrain", {"preset": "basic", "epochs": epochs}, SCRIPT, address)
        if answer.status != 503 or answer.json["error"]["code"] != "overloaded":
            return answer
        time.sleep(int(answer.headers["Retry-After"]))


def row(cluster, number: int) -> Run:
    with cluster.database.reading() as session:
        return session.get(Run, number)


def finished(cluster, number: int) -> Run:
    """The run after its end, which made one version."""
    wait_until(lambda: row(cluster, number).ended_at, RUN_SECONDS)
    run = row(cluster, number)
    assert (run.state, run.error) == ("finished", None)
    with cluster.database.reading() as session:
        assert list(session.scalars(select(Version.id).where(Version.run_id == number))) == [run.version_id]
    assert [epoch["epoch"] for epoch in run.history] == list(range(run.epochs + 1))
    return run


def trainers(cluster, number: int) -> list:
    """The workers that have a child process at this run."""
    order = f"\0run\0{number}\0".encode()

    def trains(pid: int) -> bool:
        path = Path(f"/proc/{pid}/cmdline")
        return path.exists() and order in path.read_bytes()

    return [worker for worker in cluster.workers if any(map(trains, descendants(worker.process.pid)))]


def test_run_started_fifty_times_at_once_is_one(cluster):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: start(cluster, 1000, f"127.0.4.{n + 1}"), range(50)))
    assert Counter(answer.status for answer in answers) == {202: 1, 409: 49}
    (number,) = (answer.json["id"] for answer in answers if answer.status == 202)
    wait_until(lambda: row(cluster, number).history, RUN_SECONDS)
    assert len(trainers(cluster, number)) == 1
    assert cluster.ask("POST", f"/admin/runs/{number}/cancel", {}, SCRIPT).status == 202
    wait_until(lambda: row(cluster, number).state == "cancelled", RUN_SECONDS)
    assert row(cluster, number).attempt == 1


@pytest.mark.parametrize("wait", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["expired", "waited for"])
def test_worker_killed_with_its_trainer_is_followed_by_the_other(cluster, wait):
    number = start(cluster, 5).json["id"]
    wait_until(lambda: checkpoint(cluster, number), RUN_SECONDS)
    (lost,) = trainers(cluster, number)
    lost.kill()
    killed_at = time.monotonic()
    if not wait:
        with cluster.database.writing() as session:
            session.execute(update(Run).where(Run.id == number).values(lease_until=time.time() - 1))
    wait_until(lambda: row(cluster, number).attempt == 2, LEASE_SECONDS + 15)
    print(f"taken up by the other worker after {time.monotonic() - killed_at:.1f} s")
    wait_until(lambda: trainers(cluster, number))
    assert trainers(cluster, number) == [worker for worker in cluster.workers if worker is not lost]
    run = finished(cluster, number)
    assert (run.attempt, run.failed_attempts) == (2, 1)


def checkpoint(cluster, number: int):
    with cluster.database.reading() as session:
        return session.get(Checkpoint, number)


def test_run_outlives_the_loss_of_redis(cluster):
    for worker in cluster.workers:
        worker.stop()
    number = start(cluster, 1).json["id"]
    empty(cluster.redis)
    assert row(cluster, number).state == "queued"
    for worker in cluster.workers:
        worker.start()
    wait_until(lambda: row(cluster, number).state == "running")
    empty(cluster.redis)
    assert finished(cluster, number).attempt == 1


def empty(redis) -> None:
    with redis.connect() as client:
        client.flushall()
    redis.stop()
    redis.start()
    with redis.connect() as client:
        client.flushall()
