"""Alive and ready: what a watcher of the server is told."""

import time

import pytest
from sqlalchemy import delete, update

from model.inference.classifier import SHIPPED
from tests.support.requests import INTERNALS, ONE
from tests.support.versions import add_version, damaged, promote
from webapp.services import services
from webapp.storage.schema import Promotion, Worker
from webapp.storage.workers import Presence


def lose(database, path, how):
    database.close()
    match how:
        case "moved":
            path.rename(path.with_suffix(".away"))
        case "empty":
            path.write_bytes(b"")
        case "no database":
            path.write_bytes(b"this is no database" * 1000)
        case "a folder":
            path.unlink()
            path.mkdir()


def not_ready(client):
    response = client.get("/readyz")
    assert response.status_code == 503 and response.cache_control.no_store
    body = response.get_json()
    assert body["status"] == "not ready" and not INTERNALS.search(response.get_data(as_text=True))
    return body["checks"]


def test_readyz_healthy_answers_ok(client):
    response = client.get("/readyz")
    assert response.status_code == 200 and response.cache_control.no_store
    body = response.get_json()
    assert body["status"] == "ok" and body["checks"]["model"] == "ok, v1"
    assert body["checks"]["database"].startswith("ok, sqlite")


@pytest.mark.both_databases
def test_readyz_tells_who_does_the_work_and_stays_ready_without(app, client):
    """No load balancer should take a replica out of service for want of a worker: pictures are read without."""

    def told():
        response = client.get("/readyz")
        assert (response.status_code, response.get_json()["status"]) == (200, "ok")
        return response.get_json()["checks"]["worker"]

    database = services(app).database
    assert told().startswith("no worker has answered yet: start one") and "python -m webapp worker" in told()
    first, second = Presence(database), Presence(database)
    first.report()
    assert told() == "ok, 1 alive"
    second.report()
    assert told() == "ok, 2 alive"
    first.stop()
    assert told() == "ok, 1 alive"
    for seconds, words in ((300, "5 minutes"), (5400, "1 hour 30 minutes"), (2 * 86400, "48 hours")):
        with database.writing() as session:
            session.execute(update(Worker).values(seen_at=time.time() - seconds))
        assert told().startswith(f"no worker has answered for {words}: start one")


HOW = ["moved", "empty", "no database", "a folder"]


@pytest.mark.parametrize("how", HOW)
def test_readyz_without_database_answers_503(app, client, settings, how):
    lose(services(app).database, settings.data_dir / "inkling.db", how)
    assert client.get("/healthz").get_json() == {"status": "ok"}
    checks = not_ready(client)
    assert all("does not answer" in check for check in checks.values()) and len(checks) == 3


@pytest.mark.parametrize("how", ["moved", "no database"])
def test_predict_without_database_answers_once_loaded(app, client, settings, how):
    client.post("/predict", json=ONE)
    lose(services(app).database, settings.data_dir / "inkling.db", how)
    checks = not_ready(client)
    assert "does not answer" in checks["database"] and checks["model"] == "ok, v1"
    assert client.post("/predict", json=ONE).status_code == 200


def test_readyz_database_moved_away_answers_503(client, settings):
    """An open connection goes on reading a file that nobody else can find any more."""
    assert client.get("/readyz").status_code == 200
    path = settings.data_dir / "inkling.db"
    path.rename(path.with_suffix(".away"))
    assert "does not answer" in not_ready(client)["database"]
    assert not path.exists()
    path.with_suffix(".away").rename(path)
    assert client.get("/readyz").status_code == 200


def test_readyz_without_version_answers_503(app, client):
    with services(app).database.writing() as session:
        session.execute(delete(Promotion))
    checks = not_ready(client)
    assert checks["database"].startswith("ok") and "make setup" in checks["model"]


def test_readyz_damaged_weights_answers_503(app, client):
    database = services(app).database
    promote(database, add_version(database, damaged(SHIPPED.read_bytes())))
    checks = not_ready(client)
    assert checks["database"].startswith("ok") and "damaged" in checks["model"]
    assert client.get("/healthz").status_code == 200
    assert client.get("/").status_code == 200
