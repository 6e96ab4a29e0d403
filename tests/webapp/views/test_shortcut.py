"""The short way of the page's own question says what Flask's way says, and leaves everything else to it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.support.requests import ONE, assert_error, blank, data_url, drawn, encoded
from webapp.views import draw
from webapp.views.shortcut import MOST_BYTES, Shortcut


def drawing(picture) -> str:
    """As the page sends it."""
    return data_url(encoded(picture, "PPM"), "x-portable-graymap")


def as_sent(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


PAGE = as_sent({"image": drawing(ImageOps.invert(drawn(side=64)))})


def answer(client, body, content_type="application/json", **environ):
    response = client.post(draw.ADDRESS, data=body, content_type=content_type, environ_overrides=environ)
    headers = {name: value for name, value in response.headers.items() if name != "X-Request-ID"}
    return response.status_code, headers, response.get_data()


@pytest.fixture
def both_ways(reader, monkeypatch):
    """The answer of either way to a body, the short one first."""

    def ask(body, **more):
        short = answer(reader, body, **more)
        with monkeypatch.context() as patch:
            patch.setattr(Shortcut, "_predict", lambda *_: None)
            return short, answer(reader, body, **more)

    return ask


@pytest.fixture
def by_flask(monkeypatch):
    """Counts the requests that come to Flask."""
    asked = []
    parsed = draw.json_object
    monkeypatch.setattr(draw, "json_object", lambda: asked.append(1) or parsed())
    return asked


PICTURES = {
    "as from the page": ImageOps.invert(drawn(side=64)),
    "dark on white": drawn(side=90),
    "a dash": drawn(side=64).rotate(90),
    "blank": blank(9),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES.keys())
def test_question_of_the_page_is_answered_alike_without_flask(reader, both_ways, by_flask, picture):
    body = as_sent({"image": drawing(picture)})
    short, long = both_ways(body)
    assert short == long and short[0] == 200
    assert len(by_flask) == 1


UNUSUAL = {
    "another picture": as_sent(ONE),
    "spaces": json.dumps({"image": drawing(drawn(side=64))}).encode(),
    "nothing": b"",
    "cut short": PAGE[:-9],
    "no picture": as_sent({"image": "data:image/x-portable-graymap;base64,aGVsbG8="}),
    "padding too much": PAGE.replace(b'"}', b'===="}'),
    "no base64": as_sent({"image": "data:image/x-portable-graymap;base64,####"}),
    "the image twice": PAGE[:-1] + b',"image":"x"}',
    "images as well": PAGE[:-1] + b',"images":["x"]}',
    "a large picture": as_sent({"image": drawing(drawn(side=200))}),
}


@pytest.mark.parametrize("case", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_body_is_left_to_flask(both_ways, by_flask, case):
    short, long = both_ways(case)
    assert short == long
    assert len(by_flask) == 2


def test_other_method_or_type_is_left_to_flask(reader, by_flask):
    assert reader.get(draw.ADDRESS).status_code == 405
    assert_error(reader.post(draw.ADDRESS, data=PAGE, content_type="text/plain"), 415, "not_json")
    assert reader.post(draw.ADDRESS, data=PAGE, content_type="application/json; charset=utf-8").status_code == 200
    assert reader.post(draw.ADDRESS + "/", data=PAGE, content_type="application/json").status_code == 404
    assert len(by_flask) == 2


def test_body_of_unknown_length_is_left_to_flask(reader):
    refused = answer(reader, PAGE, HTTP_TRANSFER_ENCODING="chunked")
    assert refused[0] == 411


@pytest.mark.parametrize("length", ["", "-1", "x", "\u0663", str(MOST_BYTES + 1)])
def test_bad_length_is_left_to_flask(reader, by_flask, length):
    status, _, _ = answer(reader, PAGE, CONTENT_LENGTH=length)
    assert status < 500


def test_question_of_the_page_is_logged_and_counted(shared_app, reader, caplog):
    caplog.set_level("INFO", logger="webapp.requests")
    answer(reader, PAGE)
    line = next(record for record in caplog.records if record.name == "webapp.requests").fields
    assert (line["route"], line["version"], line["verdict"], line["status"]) == (draw.ADDRESS, "v1", "digit", 200)


@given(
    pixels=st.binary(min_size=16, max_size=400),
    width=st.integers(1, 20),
    ending=st.sampled_from([b'"}', b'","more":1}', b'"', b'"}}', b'","image":1}', b'"} ']),
)
@settings(max_examples=80, deadline=None)
def test_any_drawing_is_answered_alike(reader, pixels, width, ending):
    pixels = pixels[: len(pixels) // width * width] or bytes(width)
    shown = np.pad(np.frombuffer(pixels, np.uint8).reshape(-1, width), 1)
    body = as_sent({"image": drawing(Image.fromarray(shown))}).removesuffix(b'"}') + ending
    short = answer(reader, body)
    kept, Shortcut._predict = Shortcut._predict, lambda *_: None
    try:
        assert answer(reader, body) == short
    finally:
        Shortcut._predict = kept
