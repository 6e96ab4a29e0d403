"""PostgreSQL and Redis away, and back: readings go on from memory, and nothing that was acknowledged is lost."""

import signal
import time

import pytest
from sqlalchemy import func, select

from tests.support.authors import Authors
from tests.support.cluster import SCRIPT, Load
from tests.support.requests import ONE
from tests.support.servers import wait_until
from webapp.storage.schema import Correction

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RUN_SECONDS = 240  # trainers give way to whatever else goes on, so that it can take them long
SOON_SECONDS = 15  # within which even an answer that says "not now" has to come; two on an idle machine


def timed(ask, *request):
    began = time.monotonic()
    answer = ask(*request)
    assert time.monotonic() - began < SOON_SECONDS, request
    return answer


def long_run(cluster) -> int:
    """A run that a worker is training, and that goes on until it is cancelled."""
    started = cluster.ask("POST", "/admin/retrain", {"preset": "basic", "epochs": 1000}, SCRIPT)
    assert started.status == 202, started.body
    wait_until(lambda: run(cluster, started.json["id"])["history"], RUN_SECONDS)
    return started.json["id"]


def run(cluster, number: int) -> dict:
    return cluster.ask("GET", f"/admin/runs/{number}", headers=SCRIPT).json


def assert_goes_on(cluster, number: int) -> None:
    """The run has not been lost, and ends when it is told to."""
    seen = len(run(cluster, number)["history"])
    wait_until(lambda: len(run(cluster, number)["history"]) > seen, RUN_SECONDS)
    assert cluster.ask("POST", f"/admin/runs/{number}/cancel", {}, SCRIPT).status == 202
    wait_until(lambda: run(cluster, number)["state"] == "cancelled", RUN_SECONDS)
    assert run(cluster, number)["attempt"] <= 2


@pytest.mark.parametrize("seconds", [8, pytest.param(20, marks=pytest.mark.stress)])
def test_cluster_without_postgresql_goes_on_reading(cluster, seconds):
    number = long_run(cluster)
    with Load(cluster, ONE) as load:
        load.wait_for(50)
        cluster.postgresql.stop()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for replica in cluster.replicas:
                assert timed(replica.ask, "GET", "/healthz").status == 200
                assert timed(replica.ask, "GET", "/readyz").status == 503
            refused = timed(cluster.ask, "POST", "/admin/retrain", {}, SCRIPT)
            assert (refused.status, refused.json["error"]["code"]) == (503, "database")
        load.wait_for(50)
        cluster.postgresql.start()
        for replica in cluster.replicas:
            wait_until(replica.is_ready, 30)
        load.wait_for(50)
    assert not load.failed
    assert_goes_on(cluster, number)


@pytest.mark.parametrize("seconds", [8, pytest.param(20, marks=pytest.mark.stress)])
def test_cluster_without_redis_does_later_what_is_asked_for(cluster, seconds):
    with Load(cluster, ONE) as load:
        load.wait_for(50)
        cluster.redis.stop()
        began = time.monotonic()
        started = timed(cluster.ask, "POST", "/admin/retrain", {"preset": "basic", "epochs": 1000}, SCRIPT)
        assert started.status == 202
        while time.monotonic() < began + seconds:
            for replica in cluster.replicas:
                assert timed(replica.ask, "GET", "/healthz").status == 200
            assert timed(
                cluster.ask,
                "GET",
                "/admin",
            ).status in (200, 303)
        cluster.redis.start()
        wait_until(lambda: run(cluster, started.json["id"])["history"], RUN_SECONDS)
    assert not load.failed
    assert all(replica.is_ready() for replica in cluster.replicas)
    assert_goes_on(cluster, started.json["id"])


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.stress)])
def test_correction_acknowledged_outlives_stops_of_postgresql(cluster, rounds):
    before = kept(cluster)
    with Authors(cluster, network=rounds) as authors:
        for _ in range(rounds):
            seen = len(authors.receipts)
            wait_until(lambda seen=seen: len(authors.receipts) > seen + 20)
            cluster.postgresql.stop(signal.SIGQUIT)
            cluster.postgresql.start()
    print(f"{len(authors.receipts)} corrections acknowledged over {rounds} immediate stops; {dict(authors.statuses)}")
    assert set(authors.statuses) <= {201, 429, 503}
    for replica in cluster.replicas:
        wait_until(replica.is_ready)
    lost = [path for path in authors.receipts if cluster.replicas[0].ask("GET", path).status != 200]
    assert not lost
    # Besides those, at most one of each author for each stop: kept, and the answer lost on its way.
    assert 0 <= kept(cluster) - before - len(authors.receipts) <= 4 * rounds


def kept(cluster) -> int:
    with cluster.database.reading() as session:
        return session.scalar(select(func.count()).select_from(Correction))
