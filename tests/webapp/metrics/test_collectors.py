"""Figures that are asked for at each scrape, and what becomes of a scrape while somebody does not answer."""

import platform
import signal
import threading

import pytest

from model.presets import Config
from tests.conftest import SECRET_KEY, settings_in
from tests.support import servers
from tests.support.exposition import sample
from tests.support.servers import wait_until
from webapp.app import create_app
from webapp.corrections import import_queue
from webapp.metrics import collectors
from webapp.release import COMMIT, RELEASE, SCHEMA
from webapp.services import services
from webapp.storage import health
from webapp.storage.schema import Run
from webapp.storage.workers import Presence
from webapp.training.runs import Lease, claim


def scrape(app):
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200
    return answer.text


@pytest.mark.both_databases
def test_metrics_tell_what_workers_have_to_do(app):
    database, jobs = services(app).database, services(app).jobs
    text = scrape(app)
    assert sample(text, "inkling_database_up") == 1 and sample(text, "inkling_database_size_bytes") > 100_000
    for name in ("workers", "training_run", "training_epoch", "training_epochs", "training_progress_ratio"):
        assert f"\ninkling_{name} 0.0\n" in text
    for work in ("run", "import"):
        assert f'\ninkling_queue_length{{work="{work}"}} 0.0\n' in text
        assert f'\ninkling_queue_oldest_seconds{{work="{work}"}} 0.0\n' in text

    run = jobs.start(Config("basic", 3), "a test")
    with database.writing() as session:
        session.get(Run, run.id).created_at -= 100
    import_queue.enqueue(database, "digits.npz", b"a file", "0" * 64, 3, "a test")
    worker = Presence(database)
    worker.report()
    text = scrape(app)
    assert sample(text, "inkling_workers") == 1
    assert sample(text, "inkling_queue_length", work="run") == sample(text, "inkling_queue_length", work="import") == 1
    assert 100 <= sample(text, "inkling_queue_oldest_seconds", work="run") < 200
    assert 0 <= sample(text, "inkling_queue_oldest_seconds", work="import") < 100

    lease = Lease(database, run.id, claim(database, run.id))
    lease.renew(progress={"epoch": 2, "fraction": 0.5, "train_loss": None})
    worker.stop()
    text = scrape(app)
    assert sample(text, "inkling_workers") == sample(text, "inkling_queue_length", work="run") == 0
    for name, figure in (("run", run.id), ("epoch", 2), ("epochs", 3), ("progress_ratio", 0.5)):
        assert sample(text, f"inkling_training_{name}") == figure


def test_metrics_tell_what_is_running(shared_app):
    labels = {"release": RELEASE, "commit": COMMIT[:12], "python": platform.python_version(), "schema": SCHEMA}
    assert sample(scrape(shared_app), "inkling_build_info", **labels) == 1


def test_metrics_tell_the_space_left_for_sqlite(shared_app):
    assert sample(scrape(shared_app), "inkling_database_free_bytes") > 0


def test_metrics_without_redis_do_not_name_it(shared_app):
    assert "redis" not in scrape(shared_app)


def test_metrics_tell_whether_redis_answers(tmp_path):
    with servers.redis() as redis:
        app = create_app(settings_in(tmp_path / "data", REDIS_URL=redis.url, SECRET_KEY=SECRET_KEY))
        text = scrape(app)
        assert sample(text, "inkling_redis_up") == 1 and 0 < sample(text, "inkling_redis_ping_seconds") < 2
        redis.process.send_signal(signal.SIGSTOP)
        try:
            text = scrape(app)
        finally:
            redis.process.send_signal(signal.SIGCONT)
        assert sample(text, "inkling_redis_up") == 0 and "ping" not in text and "inkling_build_info" in text
        redis.stop()
        assert sample(scrape(app), "inkling_redis_up") == 0
        redis.start()
        assert sample(scrape(app), "inkling_redis_up") == 1
        services(app).close()


def test_metrics_while_the_database_hangs_are_whole_and_in_time(app, monkeypatch):
    """As of a server that is stopped, or a disk that does not answer: no error, and no end of waiting."""
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.2)
    goes_on = threading.Event()
    monkeypatch.setattr(collectors, "count_alive", lambda session: goes_on.wait(60))
    for _ in range(3):
        text = scrape(app)
        assert sample(text, "inkling_database_up") == 0 and "inkling_runs" not in text
        assert "inkling_build_info" in text and "# TYPE inkling_requests_total counter" in text
    asking = [thread for thread in threading.enumerate() if thread.name == "question"]
    assert len(asking) == 1, "a scrape does not ask again while one is waiting"
    monkeypatch.undo()
    goes_on.set()
    wait_until(lambda: sample(scrape(app), "inkling_database_up") == 1)
