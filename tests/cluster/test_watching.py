"""What monitoring is told by each replica, also of servers that hang."""

import os
import signal
import time
from contextlib import contextmanager

import pytest

from tests.support.cluster import descendants
from tests.support.exposition import sample
from tests.support.requests import ONE
from tests.support.servers import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SOON_SECONDS = 5  # two on an idle machine


def told(cluster, *names):
    """What the replicas tell of these, each combination once."""
    found = set()
    for replica in cluster.replicas:
        began = time.monotonic()
        answer = replica.ask("GET", "/metrics")
        assert answer.status == 200 and time.monotonic() - began < SOON_SECONDS
        found.add(tuple(sample(answer.body.decode(), f"inkling_{name}") for name in names))
    return found


def ready(replica):
    began = time.monotonic()
    answer = replica.ask("GET", "/readyz")
    assert time.monotonic() - began < SOON_SECONDS
    return answer.status, answer.json["checks"]


@contextmanager
def hanging(server):
    """A server whose processes are stopped: it takes connections, and answers nothing."""
    pids = [server.process.pid, *descendants(server.process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_workers_are_told_by_every_replica(cluster):
    wait_until(lambda: told(cluster, "workers") == {(2,)})
    cluster.workers[0].stop()
    assert told(cluster, "workers") == {(1,)}
    cluster.workers[1].stop()
    assert told(cluster, "workers") == {(0,)}
    for replica in cluster.replicas:
        status, checks = ready(replica)
        assert status == 200 and checks["worker"].startswith("no worker has answered for ")


def test_redis_hanging_is_told_and_holds_nobody_up(cluster):
    assert told(cluster, "redis_up", "database_up") == {(1, 1)}
    with hanging(cluster.redis):
        assert told(cluster, "redis_up", "database_up") == {(0, 1)}
    wait_until(lambda: told(cluster, "redis_up") == {(1,)})


def test_postgresql_hanging_is_told_and_holds_nobody_up(cluster):
    """Previously each probe of it kept a web worker for six seconds."""
    with hanging(cluster.postgresql):
        assert told(cluster, "redis_up", "database_up") == {(1, 0)}
        for replica in cluster.replicas:
            status, checks = ready(replica)
            assert (status, checks["model"]) == (503, "ok, v1") and "does not answer" in checks["database"]
            assert replica.ask("POST", "/predict", ONE).status == 200
    wait_until(lambda: told(cluster, "database_up") == {(1,)})
