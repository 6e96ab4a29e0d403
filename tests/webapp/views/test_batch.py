"""POST /predict with many pictures: one answer each, in order, and bounds on what one request may cost."""

import json
import random

import pytest
from PIL import Image

from model.imaging.decode import MAX_PIXELS
from tests.support.requests import ONE, assert_error, blank, data_url, drawn, encoded
from webapp.http.pictures import MAX_BODY_BYTES
from webapp.versions.active import ActiveModel
from webapp.views.draw import MOST_IMAGES

BLANK = data_url(encoded(blank()))


def picture(seed: int) -> str:
    """A drawing of some strokes, another one for each seed."""
    chance = random.Random(seed)
    sheet = Image.new("L", (112, 112), 255)
    for _ in range(1 + seed % 4):
        mark = drawn(side=40 + 2 * chance.randrange(30)).rotate(chance.randrange(180), fillcolor=255)
        sheet.paste(mark, (chance.randrange(20), chance.randrange(20)))
    return data_url(encoded(sheet))


def batch(client, images, **more):
    return client.post("/predict", json={"images": images, **more})


def test_batch_picture_is_answered_as_alone(reader):
    images = [picture(seed) for seed in range(12)] + [BLANK]
    response = batch(reader, images)
    assert response.status_code == 200 and response.mimetype == "application/json"
    answer = response.get_json()
    assert set(answer) == {"version", "test_accuracy", "readings"} and answer["version"] == "v1"
    alone = [reader.post("/predict", json={"image": image}).get_json() for image in images]
    for one, together in zip(alone, answer["readings"], strict=True):
        assert (one.pop("version"), one.pop("test_accuracy")) == ("v1", answer["test_accuracy"])
        for name in ("probabilities", "not_a_digit"):  # the products are added up in another order
            assert together.pop(name) == pytest.approx(one.pop(name), abs=1e-5)
        assert [digit["digit"] for digit in together.pop("top")] == [digit["digit"] for digit in one.pop("top")]
        assert together == one
    assert len({reading["digit_image"] for reading in answer["readings"]}) == 13
    assert answer["readings"][-1]["verdict"] == "blank"


BAD = {
    "null": (None, "no_image"),
    "a number": (7, "no_image"),
    "a list": ([ONE["image"]], "no_image"),
    "an object": (ONE, "no_image"),
    "an address": ("https://example.org/7.png", "not_a_data_url"),
    "no base64": ("data:image/png;base64,####", "not_base64"),
    "no picture": (data_url(b"hello"), "not_a_picture"),
    "cut short": (data_url(encoded(drawn())[:60]), "not_a_picture"),
    "too many pixels": (data_url(encoded(Image.new("L", (5000, 5001)))), "picture_too_large"),
}


def test_batch_bad_picture_has_its_own_error(reader):
    images = [ONE["image"]]
    for bad, _ in BAD.values():
        images += [bad, ONE["image"]]
    readings = batch(reader, images).get_json()["readings"]
    assert len(readings) == len(images)
    assert all(reading["digits"] == [1] for reading in readings[::2])
    for (bad, code), reading in zip(BAD.values(), readings[1::2], strict=True):
        error = reading.pop("error")
        assert reading == {} and set(error) == {"code", "message"} and error["code"] == code
        alone = reader.post("/predict", json={"image": bad})
        message = assert_error(alone, alone.status_code, code)
        assert message == error["message"] or code == "picture_too_large"  # by the pixels left of the batch's


def test_batch_without_ink_loads_no_weights(app, client, monkeypatch):
    monkeypatch.setattr(ActiveModel, "_weights", lambda *_: pytest.fail("the weights were loaded"))
    readings = batch(client, [BLANK, None, BLANK]).get_json()["readings"]
    assert [reading.get("verdict") for reading in readings] == ["blank", None, "blank"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"images": []}, 400, "no_image"),
        ({"images": None}, 400, "no_image"),
        ({"images": ONE["image"]}, 400, "no_image"),
        ({"images": {"0": ONE["image"]}}, 400, "no_image"),
        ({"images": [ONE["image"]], **ONE}, 400, "image_and_images"),
        ({"images": [], "image": None}, 400, "image_and_images"),
        ({"images": [None] * (MOST_IMAGES + 1)}, 413, "too_many_images"),
    ],
)
def test_batch_that_is_none_is_refused(reader, body, status, code):
    assert_error(reader.post("/predict", json=body), status, code)


def test_batch_of_the_most_pictures_is_read_in_order(reader):
    """All 256 are read, with a mark that tells which is which."""
    marked = {17: BLANK, 200: "nothing", 255: BLANK}
    images = [marked.get(number, ONE["image"]) for number in range(MOST_IMAGES)]
    readings = batch(reader, images).get_json()["readings"]
    assert {number for number, reading in enumerate(readings) if reading.get("verdict") != "digit"} == set(marked)
    assert readings[200]["error"]["code"] == "not_a_data_url"


def test_batch_over_its_limit_of_bytes_is_refused(reader):
    body = json.dumps({"images": [ONE["image"]]}).encode()

    def post(size):
        return reader.post("/predict", data=body.ljust(size), content_type="application/json")

    assert post(MAX_BODY_BYTES).status_code == 200
    assert_error(post(MAX_BODY_BYTES + 1), 413, "body_too_large")


def test_batch_over_its_limit_of_pixels_is_refused(reader):
    """Whether they can be read or not: unpacking what turns out to be damaged takes its time too."""
    large = data_url(encoded(Image.new("L", (2000, 2000))))
    damaged = data_url(encoded(Image.new("L", (2000, 2000)))[:-30])
    few = MAX_PIXELS // 4_000_000
    readings = batch(reader, [damaged, large] * 4 + [BLANK]).get_json()["readings"]
    codes = [reading.get("error", {}).get("code") for reading in readings]
    assert codes[: few + 1] == (["not_a_picture", None] * 4)[:few] + ["picture_too_large"]
    assert set(codes[few:-1]) == {"picture_too_large"} and codes[-1] is None
