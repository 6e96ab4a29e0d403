"""POST /feedback and the receipt: what may be sent, what is kept of it, how it is followed and deleted."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select, update

from model.imaging.decode import open_picture
from model.imaging.normalise import digit_image
from model.inference.weights import WeightsError
from tests.support.requests import ONE, assert_error, blank, data_url, drawn, encoded
from tests.support.versions import add_version, promote, turned
from tests.webapp.views.test_predict import REFUSED
from webapp.app import create_app
from webapp.corrections import store
from webapp.corrections.picture import MAX_SIDE
from webapp.http.pictures import MAX_BODY_BYTES
from webapp.services import services
from webapp.storage.schema import Correction, Run, RunCorrection

BROWSER = {"Accept": "text/html"}
SEVEN = ONE | {"meant": 7}


def send(client, body=SEVEN, **options):
    return client.post("/feedback", json=body, **options)


def count(app):
    with services(app).database.reading() as session:
        return session.scalar(select(func.count()).select_from(Correction))


def only_row(app, *conditions):
    with services(app).database.reading() as session:
        row = session.scalars(select(Correction).where(*conditions)).one()
        return row, row.picture


def change(app, **values):
    with services(app).database.writing() as session:
        session.execute(update(Correction).values(values))


def page_of(client, receipt):
    """The receipt's page as text, without its tags and with single spaces."""
    response = client.get(receipt, headers=BROWSER)
    assert response.status_code == 200 and response.mimetype == "text/html"
    main = response.get_data(as_text=True).partition("<main")[2]
    return " ".join(" ".join(part.partition(">")[2] for part in main.split("<")).split())


# Sending


def test_feedback_is_answered_with_a_receipt(app, client):
    response = send(client)
    assert response.status_code == 201
    known = response.get_json()
    assert response.headers["Location"] == known["receipt"]
    assert (known["meant"], known["state"], known["version"]) == (7, "received", "v1")
    assert known["answered"]["digits"] == [1]
    assert client.get(known["receipt"]).get_json()["meant"] == 7


def test_feedback_keeps_the_servers_own_reading(app, client):
    reading = client.post("/predict", json=ONE).get_json()
    send(client, SEVEN | {"answered": {"verdict": "digit", "digits": [7]}, "version": "v99", "digit_image": "x"})
    row, picture = only_row(app)
    assert row.version_id == 1 and (row.meant, row.label, row.state) == (7, 7, "received")
    assert row.answered == {
        name: reading[name] for name in ("verdict", "digits", "reason", "top", "probabilities", "not_a_digit")
    }
    shown = Image.open(io.BytesIO(base64.b64decode(reading["digit_image"].partition(",")[2])))
    assert np.array_equal(store.image_of(row), np.asarray(shown))
    again = digit_image(open_picture(picture))
    assert store.similarity(again, store.image_of(row)[None])[0] > 0.98


@pytest.mark.parametrize(("text", "meant"), [("0", 0), ("1", 1), ("9", 9), ("7.0", 7), ('"not_a_digit"', 10)])
def test_feedback_of_any_meaning_is_kept(app, client, text, meant):
    body = f'{json.dumps(ONE)[:-1]}, "meant": {text}}}'
    assert client.post("/feedback", data=body, content_type="application/json").get_json()["meant"] == json.loads(text)
    assert only_row(app)[0].meant == meant


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_feedback_keeps_only_the_ink_of_a_picture(app, client, image_format):
    secret = b"taken at home by somebody"
    picture = drawn("RGB", side=900, paper="white", ink="navy")
    note = picture.getexif()
    note[0x010E] = secret.decode()  # the description
    data = encoded(picture, image_format, exif=note)
    if image_format != "WEBP":  # which says how long it is
        data += b"<script>alert(1)</script>"
    assert secret in data
    assert send(client, {"image": data_url(data, image_format.lower()), "meant": 1}).status_code == 201
    _, kept = only_row(app)
    image = Image.open(io.BytesIO(kept))
    assert (image.format, image.mode, image.info) == ("PNG", "L", {})
    assert max(image.size) <= MAX_SIDE and image.getextrema() == (0, 255)
    assert secret not in kept and b"script" not in kept


def test_feedback_of_ink_of_any_shape_is_kept_small(app):
    for meant, size in enumerate(((1, 1000), (1000, 1), (3, 3), (900, 900))):
        picture = Image.new("RGBA", (1000, 1000))
        picture.paste("black", (10, 10, 10 + size[0], 10 + size[1]))
        response = send(app.test_client(), {"image": data_url(encoded(picture)), "meant": meant})
        assert response.status_code == 201, response.get_json()
    with services(app).database.reading() as session:
        pictures = [Image.open(io.BytesIO(data)) for data in session.scalars(select(Correction.picture))]
    assert len(pictures) == 4 and all(max(picture.size) <= MAX_SIDE for picture in pictures)


def test_feedback_sent_twice_is_the_same_correction(app, client):
    first, second = send(client), send(client)
    assert (first.status_code, second.status_code) == (201, 200)
    third = send(client, ONE | {"meant": 1})
    assert third.status_code == 200 and third.get_json()["meant"] == 1
    assert len({response.headers["Location"] for response in (first, second, third)}) == 1 == count(app)


def test_feedback_of_another_browser_has_its_own_receipt(app, client):
    """A second browser behind the same address got the first one's receipt, and changed its label."""
    first = send(client)
    others = [send(app.test_client(), ONE | {"meant": meant}) for meant in (7, 1)]
    others.append(send(app.test_client(use_cookies=False)))
    assert [response.status_code for response in others] == [201, 201, 201]
    assert len({response.headers["Location"] for response in (first, *others)}) == 4
    assert client.get(first.headers["Location"]).get_json()["meant"] == 7
    with services(app).database.reading() as session:
        found = session.scalars(select(Correction.duplicate_of).order_by(Correction.id)).all()
    assert found == [None, 1, None, 1]


def test_feedback_sets_the_browsers_cookie_once_and_stores_its_digest(app, client, settings):
    assert "Set-Cookie" not in send(client, ONE | {"meant": "seven"}).headers
    cookie = send(client).headers["Set-Cookie"]
    name, token = cookie.partition(";")[0].split("=")
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie
    assert "Max-Age" not in cookie and "Expires" not in cookie and len(token) == 22
    assert "Set-Cookie" not in send(client).headers and "Set-Cookie" not in send(client, lines(1)).headers
    assert only_row(app, Correction.meant == 7)[0].browser
    assert token.encode() not in b"\0".join(path.read_bytes() for path in settings.data_dir.glob("inkling.db*"))
    client.set_cookie(name, "guessed")
    assert "Set-Cookie" in send(client).headers and count(app) == 3


@pytest.mark.both_databases
def test_feedback_without_a_cookie_is_one_hand_for_each_address(app):
    client = app.test_client(use_cookies=False)
    for number in range(5):
        assert send(client, lines(number)).get_json()["held_out"] is False
    with services(app).database.reading() as session:
        assert store.count_hands(session) == 1
    for number in range(4):  # four browsers behind it are four hands more
        browser = app.test_client()
        browser.get("/receipts")
        assert send(browser, lines(number)).get_json()["held_out"] is (number == 3)


def test_feedback_needs_no_cookie_and_takes_no_form(app):
    client = app.test_client(use_cookies=False)
    response = send(client, headers={"Origin": "https://elsewhere.example"})
    assert response.status_code == 201
    assert not [name for name, _ in response.headers if name.startswith("Access-Control")]
    assert_error(client.post("/feedback", data=json.dumps(SEVEN), content_type="text/plain"), 415, "not_json")
    assert_error(client.post("/feedback", data=SEVEN), 415, "not_json")


# What is refused


def refused(app, client, body, status, code):
    response = client.post("/feedback", data=body, content_type="application/json")
    message = assert_error(response, status, code)
    assert count(app) == 0
    return message


def with_meaning(body):
    """The same JSON with a meaning, where it is an object at all."""
    return body.replace(b"{", b'{"meant": 7, ', 1).replace(b", }", b"}", 1)


# One of each kind: the way to the picture is the one of /predict, whose tests try the others.
BAD = {param.values[2]: param for param in reversed(REFUSED)}.values()


@pytest.mark.parametrize(("body", "status", "code"), BAD)
def test_feedback_bad_body_is_refused(shared_app, reader, body, status, code):
    body = body.encode() if isinstance(body, str) else body
    refused(shared_app, reader, with_meaning(body), status, code)


def test_feedback_body_too_large_is_refused(shared_app, reader):
    body = json.dumps(SEVEN).ljust(MAX_BODY_BYTES + 1)
    refused(shared_app, reader, body, 413, "body_too_large")


@pytest.mark.parametrize(
    "picture", [blank(), Image.new("RGBA", (50, 50)), Image.new("1", (28, 28))], ids=["white", "transparent", "black"]
)
def test_feedback_of_a_blank_picture_is_refused(shared_app, reader, picture):
    body = {"image": data_url(encoded(picture)), "meant": 7}
    refused(shared_app, reader, json.dumps(body), 400, "blank_picture")


MEANINGS = {
    "missing": "",
    "null": ', "meant": null',
    "ten": ', "meant": 10',
    "below zero": ', "meant": -1',
    "a fraction": ', "meant": 7.5',
    "half": ', "meant": 0.5',
    "true": ', "meant": true',
    "a digit as text": ', "meant": "7"',
    "other words": ', "meant": "Not_a_digit"',
    "a list": ', "meant": [7]',
    "an object": ', "meant": {"digit": 7}',
    "huge": ', "meant": 1e400',
    "many digits": f', "meant": {"7" * 4000}',
    "a lone surrogate": ', "meant": "\\ud800"',
}


@pytest.mark.parametrize("case", MEANINGS.values(), ids=MEANINGS)
def test_feedback_with_a_bad_meaning_is_refused(shared_app, reader, case):
    body = f'{{"image": {json.dumps(ONE["image"])}{case}}}'
    assert "0 to 9" in refused(shared_app, reader, body, 400, "no_meaning")


# Limits


def lines(number):
    """A picture that no other number's is nearly the same as."""
    random = np.random.default_rng(number)
    picture = Image.new("L", (112, 112), 255)
    for x, y in random.integers(8, 100, (6, 2)):
        picture.paste(0, (int(x), int(y), int(x) + 8, int(y) + 8))
    return {"image": data_url(encoded(picture)), "meant": "not_a_digit"}


def test_feedback_over_the_limit_says_when_to_come_again(app, client):
    services(app).corrections.limits = store.Limits(per_submitter=2, in_all=9, waiting=9)
    assert [send(client, lines(number)).status_code for number in range(2)] == [201, 201]
    response = send(client, lines(2))
    assert "60 minutes" in assert_error(response, 429, "too_many_corrections")
    assert 3500 < int(response.headers["Retry-After"]) <= 3600
    assert send(client, lines(2), environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code == 201
    assert count(app) == 3


def test_feedback_with_a_forged_address_counts_for_the_real_one(app, client):
    services(app).corrections.limits = store.Limits(per_submitter=1, in_all=9, waiting=9)
    send(client, lines(0))
    forged = {"X-Forwarded-For": "192.0.2.99", "X-Real-IP": "192.0.2.99", "Forwarded": "for=192.0.2.99"}
    assert_error(send(client, lines(1), headers=forged), 429, "too_many_corrections")


def test_feedback_behind_a_proxy_counts_for_the_address_it_saw(settings):
    app = create_app(replace(settings, https=True, trusted_proxies=1, corrections_per_hour=1))
    client = app.test_client()
    for number, status in ((1, 201), (2, 201), (1, 429)):
        headers = {"X-Forwarded-For": f"10.0.0.1, 192.0.2.{number}", "X-Forwarded-Proto": "https"}
        response = send(client, lines(10 * status + number), headers=headers)
        assert response.status_code == status
        assert all("Secure" in cookie and cookie[:7] == "__Host-" for cookie in response.headers.getlist("Set-Cookie"))
    services(app).database.close()


# The receipt


def test_receipt_shows_what_was_meant_and_read(app, client):
    receipt = send(client).get_json()["receipt"]
    words = page_of(client, receipt)
    assert "received" in words and "You meant a 7" in words and "v1 read a 1" in words
    assert "v1, which is in service, reads a 1" in words and "Used not yet" in words
    response = client.get(receipt, headers=BROWSER)
    assert response.get_data(as_text=True).count('src="data:image/png;base64,') == 2
    assert response.headers["Cache-Control"] == "no-store"
    assert "noindex" in response.headers["X-Robots-Tag"] and response.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"state": "approved"}, "approved A person has looked at it and agrees: a 7."),
        ({"state": "approved", "label": 8}, "takes it for an 8."),
        ({"state": "approved", "label": 10}, "takes it for no digit."),
        ({"state": "refused", "reason": "Not <b>meant</b> seriously."}, "&lt;b&gt;meant&lt;/b&gt; seriously."),
        ({"state": "refused", "reason": None}, "refused Nothing learns from it."),
        ({"state": "refused", "reason": None}, "Used no: nothing learns from a refused drawing"),
    ],
)
def test_receipt_shows_the_decision(app, client, values, words):
    receipt = send(client).get_json()["receipt"]
    change(app, **values)
    assert words in page_of(client, receipt)
    known = client.get(receipt).get_json()
    assert (known["state"], known["reason"]) == (values["state"], values.get("reason"))


def finished_run(database, version_id, *correction_ids):
    run = Run(state="finished", preset="basic", epochs=1, seed=0, requested_by="a test", version_id=version_id)
    with database.writing() as session:
        session.add(run)
        session.flush()
        for number in correction_ids:
            session.add(RunCorrection(run_id=run.id, correction_id=number))


@pytest.mark.parametrize(
    ("held_out", "purpose", "words"),
    [
        (False, "training", "Used in v2, which learnt from it"),
        (True, "comparison", "Used to compare v2 with the version before; held out, so never learnt from"),
    ],
)
def test_receipt_shows_the_version_that_used_it(app, client, held_out, purpose, words):
    receipt = send(client).get_json()["receipt"]
    database = services(app).database
    change(app, state="approved", held_out=held_out)
    version_id = add_version(database, turned(6))  # what was a 1 is a 7 to it
    finished_run(database, version_id, 1)
    finished_run(database, None, 1)  # one that failed
    promote(database, version_id)
    services(app).active_model.refresh()
    known = client.get(receipt).get_json()
    assert known["used"] == [{"version": "v2", "for": purpose}]
    assert (known["version"], known["answered"]["digits"]) == ("v1", [1])
    assert (known["now"]["version"], known["now"]["digits"]) == ("v2", [7])
    said = page_of(client, receipt)
    assert words in said and "v1 read a 1" in said and "v2, which is in service, reads a 7" in said


def test_receipt_of_a_twin_tells_of_its_first(app, client):
    send(client)
    receipt = send(app.test_client()).get_json()["receipt"]
    finished_run(services(app).database, 1, 1)
    assert client.get(receipt).get_json()["used"] == [{"version": "v1", "for": "training"}]
    assert "Nearly the same drawing was sent before" in page_of(client, receipt)


def test_receipt_without_a_version_is_read_and_deleted(app, client, monkeypatch):
    receipt = send(client).get_json()["receipt"]
    classifier = services(app).active_model.classifier()

    def broken(*_):
        raise WeightsError("damaged")

    monkeypatch.setattr(type(classifier), "predict_digit_image", broken)
    assert client.get(receipt).get_json()["now"] is None
    assert "in service" not in page_of(client, receipt)
    assert client.delete(receipt).status_code == 204


# The list of one's own


def test_own_corrections_are_those_of_the_browser_latest_first(app, client, monkeypatch):
    other = app.test_client()
    send(other, lines(0))
    sent = [send(client, lines(number)).get_json() for number in (1, 2)]
    own = client.get("/receipts")
    known = own.get_json()["corrections"]
    assert [{name: each[name] for name in each if name != "picture"} for each in known] == sent[::-1]
    assert known[0]["picture"].startswith("data:image/png;base64,")
    assert own.headers["Cache-Control"] == "no-store" and "noindex" in own.headers["X-Robots-Tag"]
    page = client.get("/receipts", headers=BROWSER).get_data(as_text=True)
    assert all(f'href="{each["receipt"]}"' in page for each in sent) and page.count("<form") == 2
    assert "Delete the drawing as no digit?" in page and page.count('src="data:image/png') == 2
    monkeypatch.setattr(store, "MAX_LISTED", 1)
    assert [each["receipt"] for each in client.get("/receipts").get_json()["corrections"]] == [sent[1]["receipt"]]


def test_own_corrections_without_the_cookie_are_none_and_explained(app, client):
    send(client)
    change(app, browser=None)  # sent to an earlier release
    for stranger in (client, app.test_client()):
        response = stranger.get("/receipts", headers=BROWSER)
        assert "until this browser is closed" in response.get_data(as_text=True)
        assert "Set-Cookie" not in response.headers
        assert stranger.get("/receipts").get_json() == {"corrections": []}


def test_correction_whose_answer_was_lost_is_found_when_sent_again(app, client):
    """The page asks for the list before it first sends, and so has its cookie."""
    asked = client.head("/receipts")
    assert "HttpOnly" in asked.headers["Set-Cookie"] and "Set-Cookie" not in client.get("/receipts").headers
    send(client)
    again = send(client)
    assert again.status_code == 200 and count(app) == 1
    assert [each["receipt"] for each in client.get("/receipts").get_json()["corrections"]] == [
        again.get_json()["receipt"]
    ]


# Deleting


@pytest.mark.parametrize("by", ["form", "script"])
def test_receipt_deleted_leaves_nothing(app, client, settings, by):
    response = send(client)
    receipt = response.headers["Location"]
    row, picture = only_row(app)
    if by == "form":
        page = client.get(receipt, headers=BROWSER).get_data(as_text=True)
        assert "Delete the drawing as a 7?" in page and 'popovertarget="delete"' in page
        action = page.partition('action="')[2].partition('"')[0]
        deleted = client.post(action, headers=BROWSER | {"Origin": "null"})
        assert deleted.status_code == 200 and "Your drawing is deleted" in deleted.get_data(as_text=True)
    else:
        deleted = client.delete(receipt)
        assert deleted.status_code == 204 and not deleted.data
    assert deleted.headers["Cache-Control"] == "no-store"
    assert count(app) == 0
    assert_error(client.get(receipt), 404, "no_receipt")
    gone = client.get(receipt, headers=BROWSER)
    assert gone.status_code == 404 and "No drawing here" in gone.get_data(as_text=True)
    assert_error(client.delete(receipt), 404, "no_receipt")
    files = b"\0".join(path.read_bytes() for path in settings.data_dir.glob("inkling.db*"))
    assert row.digit_image not in files and picture not in files and row.receipt_sha256.encode() not in files


@pytest.mark.parametrize(
    "path", ["/receipts/x", "/receipts/" + "0" * 40, "/receipts/%00", "/receipts/%ED%A0%80", "/receipts/" + "x" * 5000]
)
def test_receipt_unknown_is_not_found(shared_app, reader, path):
    assert_error(reader.get(path), 404, "no_receipt")
    assert_error(reader.delete(path), 404, "no_receipt")
    assert_error(reader.post(path + "/delete"), 404, "no_receipt")
    page = reader.get(path, headers=BROWSER)
    assert page.status_code == 404 and page.headers["Cache-Control"] == "no-store"


def test_receipt_is_never_logged(app, client, caplog, monkeypatch):
    receipt = send(client).headers["Location"]
    client.get(receipt)
    monkeypatch.setattr(services(app).active_model, "classifier", lambda: 1 / 0)
    assert client.get(receipt).status_code == 500
    monkeypatch.undo()
    client.delete(receipt)
    client.get(receipt)
    assert "ZeroDivisionError" in caplog.text and receipt.rpartition("/")[2] not in caplog.text
