"""POST /read: whole numbers of pictures and drawings, and a clear refusal of bad input."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from model.data import hands
from tests.support.requests import ONE, assert_error, blank, data_url, drawn, encoded
from tests.support.written_numbers import picture_of, written
from webapp.views.read import MOST_POINTS, MOST_STROKES

STROKES = written("2025", hands.HANDS[5])
PICTURE = picture_of(STROKES)
PGM = data_url(encoded(PICTURE, "PPM"), "x-portable-graymap")
PNG = data_url(encoded(PICTURE))
DRAWING = {"image": PGM, "strokes": [stroke.tolist() for stroke in STROKES]}


@pytest.mark.parametrize("body", [DRAWING, {"image": PGM}, {"image": PNG}, DRAWING | {"image": PNG}])
def test_read_number_is_answered_with_its_digits(reader, body):
    answer = reader.post("/read", json=body).get_json()
    assert list(answer) == ["text", "confidence", "digits", "symbols", "lines", "reading", "picture", "version"]
    assert answer["text"] == "2025" and answer["confidence"] > 0.8 and answer["version"] == "v1"
    assert [digit["digit"] for digit in answer["digits"]] == [2, 0, 2, 5] and answer["symbols"] == []
    for digit in answer["digits"]:
        assert set(digit) == {"digit", "box", "top", "verdict", "line", "digit_image"}
        assert len(digit["top"]) == 3 and digit["top"][0]["digit"] == digit["digit"]
        assert digit["verdict"] == "digit" and digit["line"] == 0
        left, top, right, bottom = digit["box"]
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
        image = Image.open(io.BytesIO(base64.b64decode(digit["digit_image"].partition(",")[2])))
        assert image.size == (28, 28)
    lefts = [digit["box"][0] for digit in answer["digits"]]
    assert lefts == sorted(lefts)
    (line,) = answer["lines"]
    assert line["text"] == "2025" and line["confidence"] == answer["confidence"]


def test_read_has_what_predict_answers(reader):
    for image in (PGM, ONE["image"]):
        predicted = reader.post("/predict", json={"image": image}).get_json()
        assert reader.post("/read", json={"image": image}).get_json()["reading"] == predicted


def test_read_lines_and_symbols(reader):
    strokes = written("-12,5\n806", hands.HANDS[2])
    answer = reader.post("/read", json={"image": data_url(encoded(picture_of(strokes)))}).get_json()
    assert answer["text"] == "-12,5\n806"
    assert [line["text"] for line in answer["lines"]] == ["-12,5", "806"]
    assert [(symbol["symbol"], symbol["line"]) for symbol in answer["symbols"]] == [("-", 0), (",", 0)]
    assert [digit["line"] for digit in answer["digits"]] == [0, 0, 0, 1, 1, 1]
    confidences = [line["confidence"] for line in answer["lines"]]
    assert answer["confidence"] == pytest.approx(np.prod(confidences))


def test_read_drawing_of_the_page_has_no_picture_and_any_other_has(reader):
    assert reader.post("/read", json={"image": PGM}).get_json()["picture"] is None
    wide = Image.new("L", (1500, 600), 255)
    wide.paste(PICTURE, (500, 60))
    shown = reader.post("/read", json={"image": data_url(encoded(wide))}).get_json()["picture"]
    for name, kind in (("image", "JPEG"), ("ink", "PNG")):
        opened = Image.open(io.BytesIO(base64.b64decode(shown[name].partition(",")[2])))
        assert opened.format == kind and max(opened.size) <= 640
    left, top, right, bottom = shown["box"]
    assert 0.3 < left < right < 0.75 and 0.1 < top < bottom < 0.5


def test_read_crop_is_the_part_that_is_read(reader):
    whole = reader.post("/read", json={"image": PNG}).get_json()
    crop = [whole["digits"][2]["box"][0] - 0.02, 0, 1, 1]
    for body in ({"image": PNG}, {"image": PGM}, DRAWING):
        answer = reader.post("/read", json=body | {"crop": crop}).get_json()
        assert answer["text"] == "25"
        assert answer["digits"][0]["box"] == pytest.approx(whole["digits"][2]["box"], abs=0.02)


def test_read_crop_may_name_any_two_corners(reader):
    crop = [1, 1, 0.5, 0]
    answers = [reader.post("/read", json=DRAWING | {"crop": crop}).get_json() for crop in (crop, [0.5, 0, 1, 1])]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("picture", [blank(), Image.new("RGB", (9, 300), "navy")])
def test_read_blank_picture_has_no_number(reader, picture):
    answer = reader.post("/read", json={"image": data_url(encoded(picture))}).get_json()
    assert (answer["text"], answer["confidence"], answer["lines"], answer["digits"]) == ("", 0, [], [])
    assert answer["reading"]["verdict"] == "blank"
    assert answer["picture"]["ink"] is None and answer["picture"]["box"] is None


BAD = [
    ({}, 400, "no_image"),
    ({"image": "7"}, 400, "not_a_data_url"),
    ({"image": data_url(b"no picture")}, 400, "not_a_picture"),
    *(
        (ONE | {"strokes": strokes}, 400, "bad_strokes")
        for strokes in (
            [], [[]], {}, "7", [[[1]]], [[[1, 2, 3]]], [[[1, "2"]]], [[[1, None]]], [[[1, True]]], [[1, 2]],
            [[[1e9, 2]]], [[[1, 2]]] * (MOST_STROKES + 1),
        )
    ),
    (ONE | {"strokes": [[[1, 2]] * (MOST_POINTS + 1)]}, 413, "too_many_points"),
    *(
        (ONE | {"crop": crop}, 400, "bad_crop")
        for crop in ([], [0, 0, 1], [0, 0, 1, 2], [-1, 0, 1, 1], "7", [0, 0, 1, "1"])
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code"), BAD)
def test_read_bad_input_is_refused(reader, body, status, code):
    assert_error(reader.post("/read", json=body), status, code)


def test_read_needs_json(reader):
    assert_error(reader.post("/read", data=b"{"), 415, "not_json")
    assert_error(reader.post("/read", data=b"{", content_type="application/json"), 400, "not_json")


def test_read_many_values_are_refused_before_they_are_parsed(reader):
    body = json.dumps(ONE | {"more": [0] * 200_000})
    assert_error(reader.post("/read", data=body, content_type="application/json"), 400, "not_json")


def test_read_as_many_points_as_allowed(reader):
    angles = np.linspace(0, 6, MOST_POINTS)
    circle = np.stack((50 + 30 * np.cos(angles), 50 + 40 * np.sin(angles)), 1).round(2).tolist()
    assert reader.post("/read", json={"image": data_url(encoded(drawn())), "strokes": [circle]}).status_code == 200


def test_read_strokes_far_from_the_picture_have_boxes_inside_it(reader):
    body = ONE | {"strokes": [[[-90000, 5], [90000, 80_000.5]], [[3, 3]]]}
    answer = reader.post("/read", json=body).get_json()
    assert all(0 <= side <= 1 for digit in answer["digits"] for side in digit["box"])
