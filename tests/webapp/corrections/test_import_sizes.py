"""Imports at the sizes that the limits allow, by a real server and its real worker, which others use meanwhile."""

import http.client
import io
import json
import math
import os
import signal
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sqlalchemy import func, insert, select

from tests.support.administrator import SCRIPT
from tests.support.gunicorn import serve
from tests.support.requests import data_url, encoded
from tests.support.servers import wait_until
from tests.webapp.corrections.test_digit_files import npz
from tests.webapp.worker.test_worker import Installation, gone
from webapp.corrections import digit_files
from webapp.corrections.import_queue import STALE_SECONDS
from webapp.storage.schema import Correction, Import

QUEUE = "/admin/corrections"


def fill(database, count):
    """As many approved corrections, each with an image of its own."""
    random = np.random.default_rng(1)
    for start in range(0, count, 1_000):
        images = random.integers(0, 256, (1_000, 28, 28), np.uint8)
        rows = [
            {"submitter": (hand := f"{(start + place) // 10:032x}"), "hand": hand,
             "receipt_sha256": f"{start + place:064x}", "meant": 1, "label": 1, "digit_image": image.tobytes(),
             "picture": bytes(300), "answered": {}, "held_out": False, "state": "approved"}
            for place, image in enumerate(images)
        ]  # fmt: skip
        with database.writing() as session:
            session.execute(insert(Correction), rows)


def many_digits(count):
    images = np.random.default_rng(2).integers(0, 256, (count, 28, 28), np.uint8)
    return npz(images=images, labels=np.arange(count) % 11, source=np.arange(count) % 1_000)


def pictures(count, side):
    """A zip of pictures in which every line runs elsewhere."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(count):
            picture = Image.new("L", (side, side), 255)
            turn = math.pi * number / count
            reach = 0.4 * side * np.array([math.cos(turn), math.sin(turn)])
            ends = [tuple(side / 2 + way * reach) for way in (-1, 1)]
            ImageDraw.Draw(picture).line(ends, 0, side // 12)
            archive.writestr(f"{number % 10}/{number}.png", encoded(picture))
    return out.getvalue()


@pytest.fixture
def installation(settings):
    """Its worker, beside a server."""
    installation = Installation(settings)
    with serve(settings.data_dir, ADMIN_TOKEN=SCRIPT["Authorization"].split()[1]) as server:
        installation.server = server
        yield installation
    installation.worker.kill()  # it would wait for its child, which judges what came in
    installation.worker.wait()
    installation.database.close()


def send(server, data):
    head = b'--end\r\nContent-Disposition: form-data; name="file"; filename="digits"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=end"}
    return server.request("POST", f"{QUEUE}/import", head + data + b"\r\n--end--\r\n", SCRIPT | kind)


def told(server):
    return json.loads(server.request("GET", f"{QUEUE}/imports/1", headers=SCRIPT).body)


class Others(threading.Thread):
    """Sends corrections, of another drawing each time, until it is told to end; keeps what was answered."""

    def __init__(self, server):
        super().__init__()
        self.server, self.statuses, self.over = server, [], threading.Event()

    def run(self):
        while not self.over.wait(0.1):
            number = len(self.statuses)
            if number == 50:
                return  # of one address no more than 60 are taken in an hour
            picture = Image.new("L", (100, 100), 255)
            ImageDraw.Draw(picture).line([(20 + number, 10), (80 - number, 90)], 0, 8)
            body = {"image": data_url(encoded(picture)), "meant": 1}
            try:
                self.statuses.append(self.server.json("POST", "/feedback", body).status)
            except (OSError, http.client.HTTPException) as error:
                self.statuses.append(repr(error))

    def end(self):
        self.over.set()
        self.join()


def imported(installation, data):
    """What the import's address tells in the end, and how others' corrections were answered meanwhile."""
    others = Others(installation.server)
    others.start()
    try:
        answer = send(installation.server, data)
        assert answer.status == 202, answer.body
        wait_until(lambda: told(installation.server)["state"] in ("finished", "failed"), 110)
    finally:
        others.end()
    return told(installation.server), set(others.statuses)


@pytest.mark.stress
def test_import_of_ten_thousand_leaves_others_their_answers(installation):
    """It was one transaction, which counted all sources a thousand times: others got a 503, or gunicorn ended it."""
    fill(installation.database, 30_000)
    found, statuses = imported(installation, many_digits(digit_files.MAX_DIGITS))
    assert (found["state"], found["added"], found["error"]) == ("finished", digit_files.MAX_DIGITS, None)
    assert statuses and statuses <= {200, 201}
    with installation.database.reading() as session:
        came = select(Correction.submitter, Correction.held_out).where(Correction.version_id.is_(None)).distinct()
        parts = [held_out for _, held_out in session.execute(came.where(Correction.state == "received"))]
    assert len(parts) == 1_000 and 190 <= sum(parts) <= 210


@pytest.mark.stress
def test_import_of_a_killed_worker_is_completed_by_the_next(installation):
    assert send(installation.server, many_digits(3_000)).status == 202
    wait_until(lambda: told(installation.server)["added"])
    child = installation.child()
    os.kill(child, signal.SIGSTOP)  # or it would let the import go as soon as its worker is gone
    installation.worker.kill()
    installation.worker.wait()
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: gone(child))
    assert told(installation.server)["state"] == "running"
    with installation.database.writing() as session:  # as if nothing had moved for long enough
        session.get(Import, 1).updated_at -= STALE_SECONDS
    installation.start_worker()
    wait_until(lambda: told(installation.server)["state"] == "finished", 100)
    assert told(installation.server)["added"] == 3_000
    with installation.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Correction)) == 3_000


@pytest.mark.stress
@pytest.mark.parametrize(("count", "side"), [(500, 800), (150, 1900)])
def test_import_of_large_pictures_completes(installation, count, side):
    """The request took longer than the 15 s after which gunicorn ends its worker."""
    found, statuses = imported(installation, pictures(count, side))
    assert (found["state"], found["added"] + found["known"], found["error"]) == ("finished", count, None)
    assert statuses and statuses <= {200, 201}
