"""A full disk: what is possible all the same, and what is told of it."""

import os
import shutil
from dataclasses import replace

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from tests.conftest import ON_POSTGRESQL
from tests.support.administrator import SCRIPT, csrf_token, sign_in
from tests.support.requests import ONE, assert_error
from webapp.app import create_app
from webapp.services import services
from webapp.storage import disk_reserve
from webapp.storage.disk_reserve import RESERVE_BYTES
from webapp.storage.schema import AdminSession, Run
from webapp.worker.executor import Executor


@pytest.fixture
def app(settings, disk):
    url = f"sqlite:///{disk / 'data' / 'inkling.db'}"
    app = create_app(replace(settings, data_dir=disk / "data", database_url=url))
    Executor(services(app).database, services(app).settings).sweep()  # as the worker does
    yield app
    with services(app).database.reading() as session:
        assert session.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    services(app).close()


def fill(disk, leaving=0):
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - leaving))


def test_readyz_little_disk_left_answers_503(app, client, disk):
    assert client.get("/readyz").status_code == 200
    fill(disk, leaving=1_000_000)
    response = client.get("/readyz")
    checks = response.get_json()["checks"]
    assert response.status_code == 503 and checks["model"] == "ok, v1"
    assert checks["database"] == "the disk is full: 1.0 MB are left"
    assert client.post("/predict", json=ONE).status_code == 200
    (disk / "filler").unlink()
    assert client.get("/readyz").status_code == 200


def test_disk_full_administrator_signs_in_and_out(app, client, admin, disk):
    cookie = client.get_cookie(app.config["SESSION_COOKIE_NAME"])
    token = csrf_token(admin)
    fill(disk)
    assert_error(client.post("/feedback", json=ONE | {"meant": 1}), 503, "database")  # it is full, and needs room
    assert admin.post("/admin/sign-out", data={"csrf_token": token}).status_code == 303
    copied = app.test_client()
    copied.set_cookie(cookie.key, cookie.value)
    assert copied.get("/admin").status_code == 303
    assert sign_in(client).status_code == 303 and client.get("/admin").status_code == 200


def test_disk_full_wrong_token_is_counted(app, client, disk):
    fill(disk)
    wrong = [client.get("/admin/versions", headers={"Authorization": "Bearer wrong"}).status_code for _ in range(6)]
    assert wrong == [401] * 5 + [429]


def test_disk_full_new_password_is_set(app, admin, disk):
    fill(disk)
    services(app).authenticator.set_password("another password")
    assert admin.get("/admin").status_code == 303
    assert sign_in(admin, "another password").status_code == 303


@pytest.mark.parametrize("state", ["queued", "running"])
def test_disk_full_run_is_cancelled(app, client, disk, state):
    client.post("/admin/retrain", json={}, headers=SCRIPT)
    if state == "running":
        with services(app).database.writing() as session:
            run = session.get(Run, 1)
            run.state, run.attempt, run.lease_until = "running", 1, 0  # its trainer is lost
    fill(disk)
    answer = client.post("/admin/runs/1/cancel", headers=SCRIPT)
    assert answer.status_code == 202 and answer.get_json()["state"] == "cancelled"


def test_disk_full_drawing_is_deleted(app, client, disk):
    receipt = client.post("/feedback", json=ONE | {"meant": 1}).get_json()["receipt"]
    fill(disk)
    assert client.delete(receipt).status_code == 204
    assert client.get(receipt).status_code == 404


def test_reserve_is_taken_again_when_there_is_room(app, admin, disk):
    file = disk / "data" / "inkling.db-reserve"
    assert file.stat().st_size == RESERVE_BYTES
    fill(disk)
    for _ in range(3):  # each time with what the one before has left
        assert admin.post("/admin/sign-out", data={"csrf_token": csrf_token(admin)}).status_code == 303
        assert sign_in(admin).status_code == 303
        assert file.stat().st_size > RESERVE_BYTES // 2
    os.truncate(disk / "filler", 0)
    Executor(services(app).database, services(app).settings).sweep()
    assert file.stat().st_size == RESERVE_BYTES


def test_sign_out_that_fails_ends_in_this_browser_and_is_said(app, admin, disk):
    token = csrf_token(admin)
    (disk / "data" / "inkling.db-reserve").unlink()
    fill(disk)
    refused = admin.post("/admin/sign-out", data={"csrf_token": token})
    assert "You are signed out in this browser" in assert_error(refused, 503, "database")
    assert admin.get("/admin").status_code == 303
    with services(app).database.reading() as session:
        assert session.scalar(select(AdminSession.token_sha256))


def test_reserve_is_not_used_for_other_faults(app):
    calls = []

    def work(session):
        calls.append(1)
        session.execute(text("SELECT * FROM nothing"))

    with pytest.raises(OperationalError):
        disk_reserve.write_using_reserve(services(app).database, work)
    assert len(calls) == 1


@ON_POSTGRESQL
def test_reserve_on_postgresql_is_none(database, settings):
    disk_reserve.fill_reserve(database)
    assert disk_reserve.free_bytes(database) is None
    assert not list(settings.data_dir.parent.rglob("*-reserve"))
