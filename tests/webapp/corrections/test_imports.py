"""Imports that a worker takes in: queued, told of, interrupted, gone on with."""

import hashlib
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select

from tests.support.administrator import BROWSER, SCRIPT, csrf_token
from tests.support.corrections import add_correction, digits
from tests.support.requests import assert_error, drawn, encoded
from tests.support.servers import wait_until
from tests.webapp.corrections.test_digit_files import LABELS, npz, zipped
from webapp.corrections import digit_files, import_digits, import_queue
from webapp.corrections.import_queue import ImportLease
from webapp.corrections.store import HELD_OUT_EVERY
from webapp.services import services
from webapp.storage.schema import Correction, Import, ImportFile
from webapp.worker import import_run
from webapp.worker.artifacts import WorkerExited
from webapp.worker.executor import Executor
from webapp.worker.import_run import import_file

QUEUE = "/admin/corrections"
COUNT = 30


def groups_of(count, many=10):
    """Digits of several sources, mixed: images, labels and sources."""
    images, labels = zip(*digits(count), strict=True)
    return {"images": np.stack(images), "labels": np.array(labels), "source": np.arange(count) % many}


FILE = npz(**groups_of(COUNT))


@pytest.fixture
def database(app):
    return services(app).database


@pytest.fixture(autouse=True)
def a_few_digits_are_many(monkeypatch):
    """They are left to the worker, and stored four at a time."""
    monkeypatch.setattr(digit_files, "SHORT_DIGITS", 3)
    monkeypatch.setattr(import_run, "ROWS_AT_ONCE", 4)


@pytest.fixture
def send(client):
    def send(data, name="digits.npz", status=202, client=client, headers=SCRIPT, **fields):
        answer = client.post(f"{QUEUE}/import", data={"file": (io.BytesIO(data), name), **fields}, headers=headers)
        assert answer.status_code == status, answer.text[:300]
        return answer

    return send


@pytest.fixture
def told(client):
    """What an import's address tells a script."""

    def told(number=1):
        return client.get(f"{QUEUE}/imports/{number}", headers=SCRIPT).get_json()

    return told


@pytest.fixture
def work(app, database):
    """Takes in what waits, as the worker's child does; `gone` says that the worker has ended."""

    def work(gone=None):
        while claimed := import_queue.claim(database):
            lease = ImportLease(database, *claimed)
            import_file(services(app).settings, database, lease, gone or threading.Event())

    return work


def rows_of(database):
    """What matters of every correction, in no order."""
    columns = Correction.digit_image, Correction.label, Correction.submitter, Correction.held_out, Correction.state
    with database.reading() as session:
        return sorted(tuple(row) for row in session.execute(select(*columns)))


def parts_of(database, app):
    """Whether what came of each group of FILE is held out; fails where that is not one answer."""
    digest = hashlib.sha256(FILE).hexdigest()
    parts = {}
    for _, _, source, held_out, _ in rows_of(database):
        assert parts.setdefault(source, held_out) == held_out
    found = services(app).corrections
    return {group: parts[found.submitter_of(f"import {digest} {group}")] for group in range(10)}


def tamper(database, number=1, **values):
    with database.writing() as session:
        for name, value in values.items():
            setattr(session.get(Import, number), name, value)


@pytest.mark.both_databases
def test_import_long_file_is_taken_in_by_the_worker(send, told, work, database, app):
    answer = send(FILE)
    assert answer.get_json() == {"import": 1, "url": f"{QUEUE}/imports/1"}
    assert answer.location == f"{QUEUE}/imports/1" and services(app).jobs.huey.pending_count() == 1
    waiting = told()
    assert (waiting["state"], waiting["fraction"], waiting["digits"]) == ("queued", 0, COUNT)
    assert (waiting["name"], waiting["requested_by"]) == ("digits.npz", "script")
    assert rows_of(database) == []
    work()
    done = told()
    assert (done["state"], done["fraction"], done["error"]) == ("finished", 1, None)
    assert (done["added"], done["known"]) == (COUNT, 0)
    rows = rows_of(database)
    assert len(rows) == COUNT and {row[-1] for row in rows} == {"received"}


@pytest.mark.both_databases
def test_import_every_fifth_source_is_held_out(send, work, app, database):
    before = 3
    for image, label in digits(before, start=100):
        add_correction(services(app).settings, database, image, label)
    send(FILE)
    work()
    assert parts_of(database, app) == {group: (before + 1 + group) % HELD_OUT_EVERY == 0 for group in range(10)}


@pytest.mark.both_databases
def test_import_worker_leaves_out_what_is_there(send, told, work, database):
    send(FILE)
    work()
    before = rows_of(database)
    assert told()["state"] == "finished"
    send(FILE, "again.npz")
    work()
    assert (told(2)["added"], told(2)["known"]) == (0, COUNT)
    assert rows_of(database) == before


class Killed(Exception):
    pass


@pytest.mark.both_databases
@pytest.mark.parametrize("stored", [0, 3])
def test_import_of_a_killed_worker_is_completed(send, told, work, app, database, monkeypatch, stored):
    """Whatever it had stored, the result is that of an import that nobody interrupted."""
    send(FILE)
    new_rows, batches = import_digits._new_rows, []

    def until_killed(*arguments):
        batches.append(arguments)
        if len(batches) > stored:
            raise Killed
        return new_rows(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(import_digits, "_new_rows", until_killed)
        work()
    assert len(rows_of(database)) == told()["added"] == 4 * stored
    assert told()["state"] == "running" and import_queue.claim(database) is None  # its row has moved a moment ago
    tamper(database, updated_at=time.time() - import_queue.STALE_SECONDS - 1)
    work()
    assert (told()["state"], told()["added"], told()["known"]) == ("finished", COUNT, 0)
    assert len(rows_of(database)) == COUNT
    assert parts_of(database, app) == {group: group % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 for group in range(10)}


def test_import_of_a_stopped_worker_is_let_go(send, told, work, database):
    send(FILE)
    gone = threading.Event()
    gone.set()
    with pytest.raises(WorkerExited):
        work(gone)
    assert told()["state"] == "queued" and rows_of(database) == []
    with database.reading() as session:
        assert session.get(Import, 1).failed_attempts == 0
    work()
    assert told()["added"] == COUNT


def test_import_attempt_taken_over_stores_nothing_more(send, told, work, app, database):
    send(FILE)
    late = ImportLease(database, *import_queue.claim(database))
    tamper(database, updated_at=0)
    work()
    import_file(services(app).settings, database, late, threading.Event())
    assert (told()["state"], told()["added"], len(rows_of(database))) == ("finished", COUNT, COUNT)


def test_imports_are_taken_in_one_after_the_other(send, told, database):
    send(FILE)
    send(npz(**groups_of(COUNT, 3)), "other.npz")
    one = ImportLease(database, *import_queue.claim(database))
    assert one.import_id == 1 and import_queue.claim(database) is None
    one.write(state="finished")
    assert import_queue.claim(database) == (2, 1)


def test_import_sent_twice_is_one(send, told, work):
    assert send(FILE).get_json() == send(FILE, "sent again.npz").get_json()
    work()
    assert send(FILE).get_json()["import"] == 2  # afterwards it is another


@pytest.mark.both_databases
def test_import_that_kills_its_process_fails(app, send, told, monkeypatch):
    send(FILE)
    executor = Executor(services(app).database, services(app).settings)
    monkeypatch.setattr(executor, "_run_child", lambda *_: -9)
    executor.import_digits()
    assert told()["state"] == "failed"
    assert told()["error"] == (
        "The import was interrupted 3 times; the last time it was killed by signal 9. Nothing was imported."
    )


def test_import_without_message_is_taken_up(send, told, database, app, monkeypatch):
    send(FILE)
    services(app).jobs.huey.flush()
    begun = []
    monkeypatch.setattr(Executor, "_run_child", lambda self, *what: begun.append(what) or 0)
    Executor(services(app).database, services(app).settings).start_overdue()
    wait_until(lambda: ("import", "1", "1") in begun, 10)
    tamper(database, state="finished")


def test_import_ended_leaves_no_file(send, work, app, database):
    send(FILE)
    Executor(services(app).database, services(app).settings).sweep()
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(ImportFile)) == 1
    work()
    Executor(services(app).database, services(app).settings).sweep()
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(ImportFile)) == 0


def test_import_with_unreadable_last_picture_adds_nothing(send, told, work, database):
    files = {f"{place % 10}/{place}.png": encoded(Image.fromarray(image)) for place, (image, _) in enumerate(digits(9))}
    send(zipped(files | {"7/last.png": encoded(Image.new("L", (90, 90), 255))}), "digits.zip")
    work()
    assert told()["state"] == "failed" and rows_of(database) == []
    assert told()["error"] == 'Nothing was imported. "7/last.png" has nothing drawn on it.'


def test_import_refusable_without_decoding_is_refused_at_once(send, database):
    files = {f"7/{place}.png": encoded(drawn()) for place in range(8)}
    for name, data, words in (
        ("7/text.png", b"no picture", "The data is not a whole PNG"),
        ("eleven/1.png", encoded(drawn()), "is no PNG file in a folder"),
        ("7/huge.png", encoded(Image.new("L", (6000, 6000))), "6000 x 6000"),
    ):
        answer = send(zipped(files | {name: data}), "digits.zip", status=400)
        assert name in assert_error(answer, 400, "bad_file") and words in answer.text
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Import)) == 0


@pytest.mark.parametrize("label", [5, int(LABELS[0])])
def test_import_under_way_respects_decisions(send, told, work, database, app, monkeypatch, label):
    """A digit that is there gets another label after it was found and before the file's digits are stored."""
    image = digits(1)[0][0]
    number = add_correction(services(app).settings, database, image, int(LABELS[0]))
    read_all = import_digits.ExistingCorrections.read_all

    def then_changed(self, database):
        read_all(self, database)
        with database.writing() as session:
            session.get(Correction, number).label = label

    monkeypatch.setattr(import_digits.ExistingCorrections, "read_all", then_changed)
    send(FILE)
    work()
    assert told()["known"] == (label == LABELS[0])


def test_import_unknown_is_not_found(client):
    assert_error(client.get(f"{QUEUE}/imports/1", headers=SCRIPT), 404, "not_found")
    assert_error(client.get(f"{QUEUE}/imports/{2**40}", headers=SCRIPT), 404, "not_found")


# What the page shows


def page(client, query=""):
    return client.get(f"{QUEUE}{query}", headers=BROWSER).text


def test_import_page_shows_progress_and_result(admin, send, work, database):
    answer = send(FILE, "<b>digits.npz", 303, headers=BROWSER, csrf_token=csrf_token(admin))
    assert answer.location == QUEUE
    assert "&lt;b&gt;digits.npz waits to be imported" in page(admin)
    assert "webapp worker" not in page(admin)
    tamper(database, updated_at=time.time() - 11)
    assert "It waits for a worker" in page(admin)
    tamper(database, state="running", fraction=0.437, updated_at=time.time())
    part = admin.get(f"{QUEUE}/imports/1?part=1", headers=BROWSER)
    assert "Importing &lt;b&gt;digits.npz: 43 %" in part.text and "<html" not in part.text
    assert part.cache_control.no_store and part.text.strip() in page(admin)
    tamper(database, state="queued")
    work()
    assert f"Imported: {COUNT} corrections, to be reviewed." in page(admin)
    tamper(database, state="failed", error="Nothing was imported. It is damaged.")
    assert "Nothing was imported. It is damaged." in page(admin)
    assert admin.get(f"{QUEUE}/imports/1", headers=BROWSER).location == QUEUE
    tamper(database, updated_at=time.time() - import_queue.RECENT_SECONDS - 1)
    assert "digits.npz" not in page(admin)
