"""Corrections out and in again, and files that must not come in."""

import csv
import http.client
import io
import json
import math
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select, update

from model.cli import main
from model.imaging.decode import MAX_BYTES
from model.presets import Config
from model.task import NO_DIGIT
from tests.conftest import TOKEN
from tests.support.administrator import BROWSER, csrf_token, sign_in
from tests.support.corrections import add_correction, digits
from tests.support.gunicorn import serve
from tests.support.requests import assert_error, drawn, encoded
from webapp.corrections import digit_files, exports
from webapp.services import services
from webapp.storage.schema import Correction
from webapp.training import runs
from webapp.worker.training_run import chosen_corrections, drop_near_copies

SCRIPT = {"Authorization": f"Bearer {TOKEN}"}
QUEUE = "/admin/corrections"


@pytest.fixture
def database(app):
    return services(app).database


@pytest.fixture
def approved(app, database):
    """Twelve approved corrections of four people, one of them relabelled, one no digit, one refused, one a twin."""
    found = services(app)
    rows = digits(12)
    numbers = [
        add_correction(found.settings, database, image, label, address=f"192.0.2.{place % 4}")
        for place, (image, label) in enumerate(rows)
    ]
    twin = add_correction(found.settings, database, *rows[0], address="203.0.113.1")
    with database.writing() as session:
        for number in [*numbers, twin]:
            session.get(Correction, number).state = "approved"
        session.get(Correction, numbers[1]).label = 5
        session.get(Correction, numbers[2]).label = NO_DIGIT
        session.get(Correction, numbers[3]).state = "refused"
    return numbers


@pytest.fixture
def export(client):
    def export(kind, state="approved"):
        response = client.get(f"{QUEUE}/export.{kind}?state={state}", headers=SCRIPT)
        assert response.status_code == 200, response.text[:300]
        assert response.cache_control.no_store
        assert response.headers["Content-Disposition"] == f"attachment; filename=corrections-{state}.{kind}"
        return response.data

    return export


@pytest.fixture
def send(client):
    def send(data, name="digits.npz", headers=SCRIPT, token=""):
        # Put together by hand: the test client leaves a large body's temporary file open.
        head = f'--end\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{token}\r\n' if token else ""
        head += f'--end\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + b"\r\n--end--\r\n"
        kind = "multipart/form-data; boundary=end"
        return client.post(f"{QUEUE}/import", data=body, content_type=kind, headers=headers)

    return send


def arrays(data):
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file}


def npz(**values):
    out = io.BytesIO()
    np.savez_compressed(out, **values)
    return out.getvalue()


def zipped(files, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def rows_of(database):
    with database.reading() as session:
        return session.scalars(select(Correction).order_by(Correction.id)).all()


IMAGES = np.stack([image for image, _ in digits(3)])
LABELS = np.array([label for _, label in digits(3)], np.uint8)
GOOD = npz(images=IMAGES, labels=LABELS)


def png(image):
    return encoded(Image.fromarray(image))


# Out


def test_export_npz_holds_approved_with_reviewed_labels(export, approved):
    found = arrays(export("npz"))
    assert list(found) == ["images", "labels", "id", "meant", "held_out", "source"]
    assert [str(array.dtype) for array in found.values()] == ["uint8", "uint8", "int64", "uint8", "bool", "int64"]
    assert (found["images"] == [image for place, (image, _) in enumerate(digits(12)) if place != 3]).all()
    kept = [number for place, number in enumerate(approved) if place != 3]
    assert found["id"].tolist() == kept
    expected = [label for place, (_, label) in enumerate(digits(12)) if place != 3]
    assert found["meant"].tolist() == expected
    assert found["labels"].tolist() == [expected[0], 5, 10, *expected[3:]]
    people = [place % 4 for place in range(12) if place != 3]
    same = found["source"][:, None] == found["source"]
    assert np.array_equal(same, np.equal.outer(people, people)) and found["source"].max() < 4


def test_export_archive_holds_pictures_and_an_index(export, approved):
    with zipfile.ZipFile(io.BytesIO(export("zip"))) as archive:
        names = archive.namelist()
        index = list(csv.DictReader(io.StringIO(archive.read("index.csv").decode())))
        opened = Image.open(io.BytesIO(archive.read(f"5/{approved[1]}.png")))
    assert np.array_equal(np.asarray(opened), digits(12)[1][0])
    assert f"not-a-digit/{approved[2]}.png" in names and len(names) == 12
    assert [int(line["id"]) for line in index] == [number for number in approved if number != approved[3]]
    assert (index[1]["file"], index[1]["label"], index[1]["meant"]) == (f"5/{approved[1]}.png", "5", "2")


@pytest.mark.parametrize(("state", "count"), [("approved", 11), ("refused", 1), ("received", 0)])
def test_export_of_each_state_is_to_be_had(export, approved, state, count):
    assert len(arrays(export("npz", state))["labels"]) == count
    with zipfile.ZipFile(io.BytesIO(export("zip", state))) as archive:
        assert len(archive.namelist()) == count + 1


@pytest.mark.parametrize("path", ["export.csv", "export.tar", "export.npzz", "export"])
def test_export_of_another_kind_is_not_found(client, path):
    assert client.get(f"{QUEUE}/{path}", headers=SCRIPT).status_code == 404


def test_export_npz_is_read_by_the_command_line(export, approved, database, tmp_path, capsys):
    path = tmp_path / "digits.npz"
    path.write_bytes(export("npz"))
    assert main(["evaluate", "--data", str(path)]) == 2  # one of them is no digit, and the command says so
    assert "labels must be from 0 to 9, not 10" in capsys.readouterr().err
    with database.writing() as session:
        session.get(Correction, approved[2]).state = "refused"
    path.write_bytes(export("npz"))
    assert main(["evaluate", "--data", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 10


@pytest.mark.parametrize("kind", ["npz", "zip"])
def test_export_under_way_lets_others_write(client, approved, database, monkeypatch, kind):
    """On a journal of SQLite's that is no write-ahead log, a reader that goes on keeps all writers waiting."""
    monkeypatch.setattr(exports, "ROWS_AT_ONCE", 2)
    pieces = client.get(f"{QUEUE}/export.{kind}", headers=SCRIPT).iter_encoded()
    data = next(pieces)
    with database.writing() as session:
        session.delete(session.get(Correction, approved[10]))  # read before its chunk is
        session.get(Correction, approved[11]).state = "refused"
    data += b"".join(pieces)
    if kind == "npz":
        found = arrays(data)["id"].tolist()
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = [int(name.partition("/")[2][:-4]) for name in archive.namelist() if name.endswith(".png")]
    assert found == [number for number in approved if number not in (approved[3], approved[10], approved[11])]


# The first export of eleven pictures takes longer than the time-out; the second one breaks off at its fifth picture.
SLOW_THEN_BROKEN = """
timeout = 2
import time
import webapp.corrections.exports
png, done = webapp.corrections.exports.png, []
webapp.corrections.exports.ROWS_AT_ONCE = 1
def slowly(image):
    done.append(image)
    if len(done) > 15:
        raise ZeroDivisionError("a surprise")
    time.sleep(0.3)
    return png(image)
webapp.corrections.exports.png = slowly
"""


@pytest.mark.stress
def test_export_longer_than_the_timeout_completes_and_one_broken_off_is_recognizable(settings, approved, app):
    with serve(settings.data_dir, workers=1, then=SLOW_THEN_BROKEN, ADMIN_TOKEN=TOKEN) as server:
        answer = server.request("GET", f"{QUEUE}/export.zip", headers=SCRIPT)
        assert answer.status == 200 and answer.headers["Transfer-Encoding"] == "chunked"
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            assert len(archive.namelist()) == 12 and archive.testzip() is None
        with pytest.raises(http.client.IncompleteRead):
            server.request("GET", f"{QUEUE}/export.zip", headers=SCRIPT)
        assert server.request("GET", "/healthz").status == 200
        assert server.log.read_text().count("an answer broke off") == 1


# In


@pytest.mark.parametrize("kind", ["npz", "zip"])
def test_export_imported_and_exported_again_is_the_same(export, send, approved, database, kind):
    before, archive = arrays(export("npz")), export(kind)
    with database.writing() as session:
        for row in session.scalars(select(Correction).order_by(Correction.duplicate_of.is_(None))):
            session.delete(row)
            session.flush()
    answer = send(archive, f"digits.{kind}")
    assert answer.status_code == 200 and answer.get_json() == {"added": 11, "known": 0}
    rows = rows_of(database)
    assert {(row.state, row.version_id, row.duplicate_of) for row in rows} == {("received", None, None)}
    assert len({row.submitter for row in rows}) == len(set(before["source"].tolist()))
    with database.writing() as session:
        for row in session.scalars(select(Correction)):
            row.state = "approved"
    after = arrays(export("npz"))

    def digits_in(found):
        return sorted(zip((image.tobytes() for image in found["images"]), found["labels"].tolist(), strict=True))

    assert digits_in(after) == digits_in(before)


@pytest.mark.both_databases
def test_import_waits_for_review(send, database, client):
    assert send(GOOD).get_json() == {"added": 3, "known": 0}
    rows = rows_of(database)
    assert [row.state for row in rows] == ["received"] * 3
    assert len({row.submitter for row in rows}) == 1 and len({row.held_out for row in rows}) == 1
    assert [(row.meant, row.label) for row in rows] == [(label, label) for label in LABELS]
    found = client.get(QUEUE, headers=SCRIPT).get_json()["corrections"][0]
    assert found["version"] is None and found["answered"] == {}
    assert client.get(found["picture"], headers=SCRIPT).mimetype == "image/png"
    assert "imported" in client.get(QUEUE, headers=SCRIPT | {"Accept": "text/html"}).text


def test_import_of_the_same_file_adds_nothing(send, database):
    send(GOOD)
    assert send(GOOD, "again.npz").get_json() == {"added": 0, "known": 3}
    assert len(rows_of(database)) == 3


def test_import_leaves_out_what_is_there(send, app, database):
    found = services(app)
    number = add_correction(found.settings, database, *digits(1)[0])
    with database.writing() as session:
        session.get(Correction, number).state = "refused"
    twice = npz(images=IMAGES[[0, 1, 1, 1]], labels=LABELS[[0, 1, 1, 2]])
    assert send(twice).get_json() == {"added": 2, "known": 2}
    assert [(row.label, row.state) for row in rows_of(database)] == [
        (LABELS[0], "refused"),
        (LABELS[1], "received"),
        (LABELS[2], "received"),  # the same image with another label is another correction
    ]


@pytest.mark.both_databases
def test_import_run_leaves_out_near_copies_across_the_sides(send, database):
    """Each source has its own side, whatever it drew; a run learns from no copy of a drawing held out."""
    image = digits(1)[0][0]
    copies = np.stack([np.clip(image.astype(int) - less, 0, 255) for less in range(5)]).astype(np.uint8)
    send(npz(images=copies, labels=np.arange(5), source=np.arange(5)))
    send(npz(images=copies, labels=np.arange(5, 10), source=np.zeros(5, int)))
    assert [row.held_out for row in rows_of(database)] == [False] * 4 + [True] + [False] * 5
    with database.writing() as session:
        session.execute(update(Correction).values(state="approved"))
    run = runs.start(database, Config("basic", 1), "a test", corrections=True)
    lease = runs.Lease(database, run.id, runs.claim(database, run.id))
    drop_near_copies(lease)
    with database.reading() as session:
        assert chosen_corrections(session, run.id).labels.tolist() == [4]


@pytest.mark.both_databases
def test_import_sources_stay_together_and_some_are_held_out(send, database):
    images = np.stack([image for image, _ in digits(30)])
    labels = np.array([label for _, label in digits(30)])
    send(npz(images=images, labels=labels, source=np.arange(30) // 3))
    rows = rows_of(database)
    parts = {}
    for row in rows:
        parts.setdefault(row.submitter, set()).add(row.held_out)
    assert len(parts) == 10 and all(len(part) == 1 for part in parts.values())
    assert sum(part == {True} for part in parts.values()) == 2


def test_import_pictures_of_any_size_are_prepared_alike(send, database):
    files = {"some/1/drawn by me.PNG": encoded(drawn()), "not-a-digit/x.png": encoded(drawn("RGB"))}
    answer = send(zipped(files), "x.zip")
    assert answer.get_json()["added"] == 2
    one, none = rows_of(database)
    assert (one.label, none.label) == (1, NO_DIGIT)
    image = np.frombuffer(one.digit_image, np.uint8).reshape(28, 28)
    assert image[14, 12:16].max() > 200 and image[:2].max() == 0  # bright on black, centred
    light = send(zipped({"1/a.png": png(255 - digits(3)[2][0])}), "y.zip")
    assert light.get_json()["added"] == 1
    assert np.frombuffer(rows_of(database)[2].digit_image, np.uint8).reshape(28, 28)[0].max() == 0


def test_import_skips_litter_of_file_managers(send, database):
    files = {"7/a.png": png(digits(1)[0][0]), "__MACOSX/7/._a.png": b"x", "7/.DS_Store": b"x", "Thumbs.db": b""}
    assert send(zipped(files), "x.zip").get_json()["added"] == 1


@pytest.mark.parametrize(("order", "kind"), [("C", np.int64), ("F", np.uint8), ("F", np.int32)])
def test_import_takes_any_array_order_and_label_type(send, database, order, kind):
    answer = send(npz(images=np.asarray(IMAGES, order=order), labels=LABELS.astype(kind)))
    assert answer.get_json()["added"] == 3
    assert rows_of(database)[2].digit_image == IMAGES[2].tobytes()


# What must not come in


def header_of(shape, dtype="|u1"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue()


def array(values):
    out = io.BytesIO()
    np.lib.format.write_array(out, values)
    return out.getvalue()


def objects():
    out = io.BytesIO()
    np.savez(out, images=np.array([{"a": 1}], object), labels=LABELS)
    return out.getvalue()


def damaged(data):
    place = data.index(b"PK\x01\x02") - 40
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def lying(data, claimed):
    """The same archive whose directory gives its first file another size."""
    place = data.index(b"PK\x01\x02") + 24
    return data[:place] + claimed.to_bytes(4, "little") + data[place + 4 :]


def encrypted(data):
    place = data.index(b"PK\x01\x02") + 8
    return data[:place] + b"\x01\x00" + data[place + 2 :]


ONE_PNG = png(digits(1)[0][0])
PEBBLE = zipped({"7/a.png": ONE_PNG}, zipfile.ZIP_STORED)
BAD_FILES = {
    "nothing": (b"", "no whole .npz"),
    "no archive": (b"hello " * 99, "no whole .npz"),
    "a picture": (ONE_PNG, "no whole .npz"),
    "cut off": (GOOD[: len(GOOD) // 2], "no whole .npz"),
    "damaged inside": (damaged(GOOD), "damaged"),
    "an empty archive": (zipped({}), "holds 0 digits"),
    "no labels": (npz(images=IMAGES), "labels"),
    "no images": (npz(labels=LABELS), "labels.npy"),
    "no digits": (npz(images=IMAGES[:0], labels=LABELS[:0]), "holds 0 digits"),
    "too few labels": (npz(images=IMAGES, labels=LABELS[:2]), "must be whole numbers (3,)"),
    "labels in two dimensions": (npz(images=IMAGES, labels=LABELS[:, None]), "must be whole numbers (3,)"),
    "a label of 11": (npz(images=IMAGES, labels=np.array([1, 11, 2])), "number 1 is 11"),
    "a label below 0": (npz(images=IMAGES, labels=np.array([1, 2, -1])), "number 2 is -1"),
    "fractional labels": (npz(images=IMAGES, labels=LABELS.astype(float)), "no whole array"),
    "images of floats": (npz(images=IMAGES / 255, labels=LABELS), "no whole array"),
    "images of another size": (npz(images=IMAGES[:, :14], labels=LABELS), "(N, 28, 28), not uint8 (3, 14, 28)"),
    "flat images": (npz(images=IMAGES.reshape(3, -1), labels=LABELS), "(N, 28, 28), not uint8 (3, 784)"),
    "a blank image": (npz(images=IMAGES * np.uint8([[[1]], [[0]], [[1]]]), labels=LABELS), "nothing drawn at number 1"),
    "objects": (objects(), "no whole array"),
    "no array": (zipped({"images.npy": b"\x93NUMPY\x01\x00", "labels.npy": array(LABELS)}), "images.npy"),
    "code for a header": (
        zipped({"images.npy": b"\x93NUMPY\x01\x00\x10\x00__import__('os')", "labels.npy": array(LABELS)}),
        "is no array",
    ),
    "a shape without the data": (
        zipped({"images.npy": header_of((10**9, 28, 28)), "labels.npy": array(LABELS)}),
        "no whole array",
    ),
    "an endless shape": (
        zipped({"images.npy": header_of((10**30, 28, 28)), "labels.npy": array(LABELS)}),
        "no whole array",
    ),
    "a negative shape": (
        zipped({"images.npy": header_of((-1, -28, 28)) + bytes(784), "labels.npy": array(LABELS)}),
        "no whole array",
    ),
    "sources that do not match": (npz(images=IMAGES, labels=LABELS, source=np.arange(2)), "source"),
    "a size that is a lie": (lying(PEBBLE, 10), "7/a.png"),
    "a size that is beyond the file": (lying(PEBBLE, 99_999), "7/a.png"),
    "an encrypted file": (encrypted(PEBBLE), "encrypted"),
    "an odd packing": (zipped({"7/a.png": ONE_PNG}, zipfile.ZIP_LZMA), "packed in a way"),
    "a text among the pictures": (zipped({"7/a.png": ONE_PNG, "7/notes.txt": b"x"}), '"7/notes.txt" is no PNG'),
    "a folder that is no digit": (zipped({"7/a.png": ONE_PNG, "eleven/b.png": ONE_PNG}), '"eleven/b.png"'),
    "a picture in no folder": (zipped({"a.png": ONE_PNG}), '"a.png"'),
    "a text named as a picture": (zipped({"7/a.png": ONE_PNG, "7/b.png": b"no picture"}), '"7/b.png": The data'),
    "a JPEG named as a PNG": (zipped({"7/b.png": encoded(drawn(), "JPEG")}), '"7/b.png": The data'),
    "a blank picture": (zipped({"7/b.png": encoded(Image.new("L", (90, 90), 255))}), '"7/b.png" has nothing drawn'),
    "a black digit image": (zipped({"7/b.png": png(np.zeros((28, 28), np.uint8))}), '"7/b.png" has nothing drawn'),
    "a picture too large": (
        zipped({"7/b.png": encoded(Image.new("L", (6_000, 6_000)))}),
        '"7/b.png": The picture has 6000 x 6000',
    ),
    "an index that is none": (zipped({"7/a.png": ONE_PNG, "index.csv": b"file,source\n7/a.png,x\n"}), "index.csv"),
    "an index of bytes": (zipped({"7/a.png": ONE_PNG, "index.csv": b"file\xff\xfe"}), "index.csv"),
    "a name of control characters": (zipped({"7/\x1b[31m\n.txt": b"x"}), '"7/?[31m?.txt"'),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_import_bad_file_is_refused_whole_with_the_reason(send, database, what):
    data, words = BAD_FILES[what]
    message = assert_error(send(data), 400, "bad_file")
    assert message.startswith("Nothing was imported. ") and words in message
    assert rows_of(database) == []


INDEXED = zipped({"7/a.png": ONE_PNG, "index.csv": b"file,source\n7/a.png,1\n"})


@pytest.mark.parametrize("whole", [GOOD, PEBBLE, INDEXED])
def test_import_damaged_file_is_refused_or_read(whole):
    """zipfile raises a dozen kinds of errors on damaged directories."""
    random = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in random.integers(max(0, len(data) - 300), len(data), 3):
            data[place] = random.integers(256)
        try:
            assert 0 < len(digit_files.inspect(bytes(data)).unpack()) <= 3
        except digit_files.ImportRefused as error:
            assert str(error).endswith(".")


def test_import_bomb_is_refused_before_unpacking(send, database, monkeypatch):
    bomb = zipped({"7/a.png": bytes(digit_files.MAX_UNPACKED_BYTES), "7/b.png": b"x"})
    assert len(bomb) < 100_000
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *args: pytest.fail("it was unpacked"))
    assert "unpacks to" in assert_error(send(bomb), 400, "bad_file")


def test_import_directory_of_too_many_entries_is_not_read(send, database, monkeypatch):
    """Python took seconds to read one of hundreds of thousands, which fits into a file of 16 MB."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *[0] * 7, 1, *[0] * 6) + b"a"
    directory = entry * (digit_files.MAX_FILE_BYTES // len(entry) - 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(directory), 0, 0)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the directory was read"))
    assert "356,961 files" in assert_error(send(directory + end), 400, "bad_file")


def test_import_of_too_many_is_refused(send, database, monkeypatch):
    monkeypatch.setattr(digit_files, "MAX_DIGITS", 2)
    monkeypatch.setattr(digit_files, "MAX_ENTRIES", 4)
    assert "3 digits; from 1 to 2" in assert_error(send(GOOD), 400, "bad_file")
    pictures = {f"7/{number}.png": ONE_PNG for number in range(3)}
    assert "3 digits" in assert_error(send(zipped(pictures)), 400, "bad_file")
    assert "5 files" in assert_error(send(zipped(pictures | {"._a": b"", "._b": b""})), 400, "bad_file")
    monkeypatch.setattr(digit_files, "MAX_DIGITS", 9)
    monkeypatch.setattr(digit_files, "MAX_SUBMITTERS", 2)
    many = npz(images=IMAGES, labels=LABELS, source=np.arange(3))
    assert "3 sources" in assert_error(send(many), 400, "bad_file")
    assert rows_of(database) == []


def test_import_of_too_many_pixels_is_refused_before_decoding(send, database, monkeypatch):
    two = zipped({"7/a.png": encoded(drawn()), "7/b.png": encoded(drawn()), "7/c.png": ONE_PNG})
    pixels = 2 * math.prod(drawn().size) + 28 * 28
    monkeypatch.setattr(digit_files, "MAX_PIXELS", pixels)
    assert send(two).get_json()["added"] == 2  # two of them are the same
    monkeypatch.setattr(digit_files, "MAX_PIXELS", pixels - 1)
    monkeypatch.setattr(digit_files, "open_picture", lambda *_, **__: pytest.fail("it was decoded"))
    message = assert_error(send(two), 400, "bad_file")
    assert f"{pixels:,} pixels together; at most {pixels - 1:,}" in message


def with_a_second_header(png, size):
    """The same PNG with another header behind the first one, which is what decoders then go by."""
    again = b"IHDR" + struct.pack(">II", *size) + png[24:29]
    return png[:33] + struct.pack(">I", 13) + again + struct.pack(">I", zlib.crc32(again)) + png[33:]


def test_import_picture_is_no_larger_than_its_header_says(send, database):
    files = {"7/a.png": encoded(drawn()), "7/b.png": with_a_second_header(encoded(drawn()), (1900, 1900))}
    assert '"7/b.png": The picture has 1900 x 1900 pixels' in assert_error(send(zipped(files)), 400, "bad_file")
    assert rows_of(database) == []


def test_import_picture_of_too_many_bytes_is_refused(send, database):
    files = {"7/a.png": ONE_PNG + bytes(MAX_BYTES)}
    assert f'"7/a.png": The picture has {len(ONE_PNG) + MAX_BYTES:,} bytes' in assert_error(
        send(zipped(files)), 400, "bad_file"
    )


def test_import_file_too_large_is_refused(send, database):
    assert "16 MB" in assert_error(send(bytes(digit_files.MAX_FILE_BYTES + 5_000)), 413, "file_too_large")
    padded = zipped({"7/a.png": ONE_PNG, ".DS_Store": bytes(12 << 20)}, zipfile.ZIP_STORED)
    assert send(padded).status_code == 200  # more than any other request may bring


def test_import_without_file_is_refused(client):
    for body in ({"data": {}}, {"json": {}}, {"data": {"file": "text"}}, {"data": {"file": (io.BytesIO(GOOD), "")}}):
        assert_error(client.post(f"{QUEUE}/import", headers=SCRIPT, **body), 400, "no_file")


def test_import_form_refused_shows_its_page_with_the_reason(client, send, database):
    large = bytes(digit_files.MAX_FILE_BYTES + 5_000)
    assert sign_in(client).status_code == 303
    token = csrf_token(client)
    sent = [
        (b"no digits", "a.txt", 400, "Nothing was imported."),
        (b"", "", 400, "The request must have a"),
        (large, "b.npz", 413, "The file is too large: at most 16 MB"),
    ]
    for data, name, status, said in sent:
        answer = send(data, name, BROWSER, token)
        assert answer.status_code == status and answer.cache_control.no_store
        assert re.search(f'<span id="file-error" class="field-error">{said}', answer.text)
        assert (
            '<details id="exchange" class="exchange" open>' in answer.text and '"file-error file-hint"' in answer.text
        )
    client.post("/admin/sign-out", data={"csrf_token": token})
    signed_out = send(large, "b.npz", BROWSER, token)
    assert signed_out.status_code == 401 and 'class="exchange"' not in signed_out.text
    assert rows_of(database) == []


def test_import_longest_immediate_file_is_taken_in(send, database):
    count = digit_files.SHORT_DIGITS
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (count, 28, 28), np.uint8), random.integers(0, 11, count)
    answer = send(npz(images=images, labels=labels, source=np.arange(count) % 99))
    assert answer.get_json() == {"added": count, "known": 0}
