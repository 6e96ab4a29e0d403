"""POST /predict: the answer's form, and a clear refusal of whatever is no picture."""

import base64
import io
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import delete

from model.imaging.decode import MAX_BYTES
from model.inference import weights
from model.inference.decision import Calibration
from model.network.mlp import MLP
from model.network.weights import serialize
from tests.support.requests import ONE, assert_error, blank, data_url, drawn, encoded
from tests.support.versions import add_version, promote
from webapp.http.pictures import MAX_BODY_BYTES
from webapp.services import services
from webapp.storage.schema import Promotion
from webapp.versions.active import ActiveModel

PNG = encoded(drawn())


def png_of_size(width, height, data=b""):
    """A PNG whose header promises a size, whatever follows."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def grey_bytes(width, height):
    return bytes((width + 1) * height)


def post(client, body, content_type="application/json"):
    return client.post("/predict", data=body, content_type=content_type)


@pytest.mark.parametrize(
    ("image_format", "image_type"),
    [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp"), ("PPM", "x-portable-graymap")],
)
def test_predict_drawing_is_read(reader, image_format, image_type):
    image = data_url(encoded(drawn(), image_format), image_type)
    response = reader.post("/predict", json={"image": image})
    assert response.status_code == 200 and response.mimetype == "application/json"
    answer = response.get_json()
    assert set(answer) == {
        "verdict", "digits", "reason", "top", "probabilities", "not_a_digit", "coverage", "can_refuse", "digit_image",
        "version", "test_accuracy",
    }  # fmt: skip
    assert answer["digits"] == [answer["top"][0]["digit"]] and answer["reason"] is None
    assert answer["verdict"] == "digit" and answer["version"] == "v1"
    assert answer["can_refuse"] is True and answer["test_accuracy"] == 0.9954
    probabilities = answer["probabilities"]
    assert len(probabilities) == 10 and all(0 <= p <= 1 for p in probabilities)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert answer["top"][0]["digit"] == 1
    best = sorted(enumerate(probabilities), key=lambda pair: -pair[1])[:3]
    assert [(entry["digit"], entry["probability"]) for entry in answer["top"]] == best


def version_that_says(app, calibration, *, outliers=(), **digits):
    """Puts a network into service that has these probabilities for every picture, the other digits next to none."""
    outputs = 10 + len(outliers)
    shares = np.full(outputs, 1e-6)
    shares[10:] = outliers
    for name, share in digits.items():
        shares[int(name[1:])] = share
    network = MLP((1,), outputs)
    for parameter in network.parameters():
        parameter.data.zero_()
    network.layers[-1].bias.data = torch.from_numpy(np.log(shares)).float()
    card = weights.ModelCard("basic", (1,), 1, 0, "", "", "", {}, 0.5, None, outputs, calibration)
    database = services(app).database
    promote(database, add_version(database, serialize(network, card)))


UNSURE = Calibration(hesitant_mass=0.9)
STRICT = Calibration(refuse_above=0.5, hesitant_mass=0.9)


@pytest.mark.parametrize(
    ("calibration", "shares", "verdict", "digits", "reason"),
    [
        (UNSURE, {"d7": 1}, "digit", [7], None),
        (UNSURE, {"d4": 0.55, "d9": 0.45}, "unsure", [4, 9], None),
        (UNSURE, {"d4": 0.5, "d9": 0.3, "d7": 0.2}, "unsure", [4, 9, 7], None),
        (STRICT, {"d7": 0.6, "outliers": (0.1, 0.1, 0.1, 0.1)}, "digit", [7], None),  # certain, if a digit at all
        (STRICT, {"d7": 0.3, "outliers": (0.4, 0.1, 0.1, 0.1)}, "not_a_digit", [], "dot"),
        (STRICT, {"d7": 0.3, "outliers": (0.1, 0.4, 0.1, 0.1)}, "not_a_digit", [], "scribble"),
        (STRICT, {"d7": 0.3, "outliers": (0.1, 0.1, 0.4, 0.1)}, "not_a_digit", [], "several"),
        (STRICT, {"d7": 0.3, "outliers": (0.1, 0.1, 0.1, 0.4)}, "not_a_digit", [], "unlike_any_digit"),
    ],
)
def test_predict_answers_every_verdict(app, client, calibration, shares, verdict, digits, reason):
    version_that_says(app, calibration, **shares)
    answer = client.post("/predict", json=ONE).get_json()
    assert (answer["verdict"], answer["digits"], answer["reason"]) == (verdict, digits, reason)
    assert answer["not_a_digit"] == pytest.approx(sum(shares.get("outliers", ())), abs=1e-3)
    assert len(answer["top"]) == 3 and sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer["top"][0]["digit"] == int(next(iter(shares))[1:])
    assert answer["digit_image"] and answer["version"] == "v2"


def test_predict_blank_picture_is_not_refused_by_the_version(app, client):
    version_that_says(app, STRICT, outliers=(0.9, 0.0001, 0.0001, 0.0001), d7=0.1)
    assert client.post("/predict", json=ONE).get_json()["verdict"] == "not_a_digit"
    answer = client.post("/predict", json={"image": data_url(encoded(blank()))}).get_json()
    assert (answer["verdict"], answer["not_a_digit"]) == ("blank", 0)


def test_predict_states_the_coverage_of_the_version(app, client):
    version_that_says(app, replace(STRICT, coverage=0.9), d4=0.5, d9=0.4)
    assert client.post("/predict", json=ONE).get_json()["coverage"] == 0.9


@pytest.mark.parametrize(
    ("calibration", "outliers", "can_refuse"),
    [(STRICT, (), False), (STRICT, (0.1, 0.1, 0.1, 0.1), True), (UNSURE, (0.1, 0.1, 0.1, 0.1), False)],
)
def test_predict_says_whether_the_version_can_refuse(app, client, calibration, outliers, can_refuse):
    version_that_says(app, calibration, outliers=outliers, d7=0.6)
    answer = client.post("/predict", json=ONE).get_json()
    assert (answer["can_refuse"], answer["test_accuracy"]) == (can_refuse, None)


def test_predict_digit_image_is_a_small_grey_png_with_bright_ink(reader):
    url = reader.post("/predict", json=ONE).get_json()["digit_image"]
    prefix, _, text = url.partition(",")
    assert prefix == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    assert (image.format, image.mode, image.size) == ("PNG", "L", (28, 28))
    pixels = np.asarray(image)
    assert pixels[0].max() == 0 and pixels.max() > 200
    assert pixels[4:24, 10:18].sum() > 0.9 * pixels.sum()


@pytest.mark.parametrize(
    "picture",
    [blank(), blank(1), Image.new("RGBA", (50, 50)), Image.new("1", (28, 28)), Image.new("RGB", (9, 300), "navy")],
    ids=["white", "one pixel", "transparent", "black", "blue"],
)
def test_predict_blank_picture_is_answered(reader, picture):
    response = reader.post("/predict", json={"image": data_url(encoded(picture))})
    assert response.status_code == 200
    nothing = {"top": [], "probabilities": [], "digits": [], "reason": None, "not_a_digit": 0.0}
    nothing |= {"coverage": None, "can_refuse": None, "digit_image": None, "test_accuracy": 0.9954}
    nothing |= {"verdict": "blank", "version": "v1"}
    assert response.get_json() == nothing


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_predict_png_of_any_mode_is_read(reader, mode):
    picture = drawn("I;16", paper=65535) if mode == "I;16" else drawn().convert(mode)
    response = reader.post("/predict", json={"image": data_url(encoded(picture))})
    assert response.get_json()["top"][0]["digit"] == 1


def test_predict_unknown_field_and_charset_are_passed_over(reader):
    response = post(reader, json.dumps(ONE | {"more": [1]}), "application/json; charset=utf-8")
    assert response.status_code == 200


def test_predict_answer_is_not_kept_by_caches(reader):
    assert reader.post("/predict", json=ONE).headers["Cache-Control"] in ("no-cache", "no-store")


def image_body(text):
    return json.dumps({"image": text})


NOT_JSON = {
    "nothing": b"",
    "text": b"hello",
    "cut short": b'{"image": "data:',
    "two values": b"{} {}",
    "bad UTF-8": b'{"image": "\xff\xfe\x80"}',
    "NaN": b'{"image": NaN}',
    "infinity": b'{"image": "x", "more": -Infinity}',
    "an integer of 50,000 digits": b'{"image": ' + b"9" * 50_000 + b"}",
    "nested 2,000 deep": b'{"image": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    "nested 50,000 deep": b'{"image": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "50,000 objects deep": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "460,000 empty lists": b'{"image": [' + b"[]," * 460_000 + b"0]}",
    "460,000 empty objects": b'{"image": [' + b"{}," * 460_000 + b"0]}",
    "350,000 numbers": b'{"image": [' + b"1.5," * 350_000 + b"0]}",
    "130,000 names": b"{" + b",".join(b'"%x":1' % i for i in range(130_000)) + b"}",
    "never closed": b"[" * 1_000_000,
    "the image twice": b'{"image": "a", "image": "b"}',
    "a name twice further in": b'{"image": {"a": 1, "a": 2}}',
    "single quotes": b"{'image': 'x'}",
    "a NUL": b'{"image": "\0"}',
}
NOT_AN_OBJECT = {"null": b"null", "list": b"[]", "text": b'"data:image/png;base64,"', "number": b"7", "true": b"true"}
NO_IMAGE = {
    "empty object": b"{}",
    "other name": b'{"Image": "data:image/png;base64,"}',
    "null": b'{"image": null}',
    "integer": b'{"image": 7}',
    "huge float": b'{"image": 1e999}',
    "true": b'{"image": true}',
    "list": b'{"image": ["data:image/png;base64,"]}',
    "object": b'{"image": {"data": "x"}}',
}
NOT_A_DATA_URL = {
    "empty": "",
    "bare base64": base64.b64encode(PNG).decode(),
    "a type that is no picture": data_url(PNG).replace("image/png", "text/plain"),
    "a long type": data_url(PNG, "x" * 65),
    "an address": "https://example.org/7.png",
    "a path": "file:///etc/passwd",
    "upper case": data_url(PNG).replace("data:image", "DATA:IMAGE"),
    "a parameter": data_url(PNG).replace(";base64", ";charset=utf-8;base64"),
    "percent encoding": "data:image/png,%89PNG",
    "space before": " " + data_url(PNG),
    "a lone surrogate": "\ud800",
}
NOT_BASE64 = {
    "only signs": "####",
    "padding inside": "aGk=aGk=",
    "padding missing": "aGk",
    "too much padding": "aGk==",
    "one letter": "a",
    "a newline inside": "aGVs\nbG8=",
    "a newline at the end": base64.b64encode(PNG).decode() + "\n",
    "a space": "aGVs bG8=",
    "URL-safe letters": "_-_-",
    "not ASCII": "aGk\u00e9",
    "digits of another script": "\u0661\u0662\u0663\u0664",
    "a lone surrogate": "aGk=\udfff",
    "a NUL": "aGk=\0",
}
NOT_A_PICTURE = {
    "nothing": b"",
    "text": b"hi",
    "cut in the header": PNG[:20],
    "cut in the middle": PNG[: len(PNG) // 2],
    "cut before the last chunk": png_of_size(28, 28),
    "no width": png_of_size(0, 28),
    "ICO": encoded(drawn(), "ICO"),
    "PDF": encoded(drawn(), "PDF"),
    "EPS": encoded(drawn(), "EPS"),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='28' height='28'/>",
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "flipped bit": PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:],
}
TOO_LARGE = {
    "over 10 MB": PNG + bytes(MAX_BYTES - len(PNG) + 1),
    "over 25 million pixels": encoded(Image.new("L", (5000, 5001))),
    "a bomb of 144 million pixels": png_of_size(12_000, 12_000, grey_bytes(12_000, 12_000)),
    "a promise of 400 million pixels": png_of_size(20_000, 20_000),
    "a line of two milliard pixels": png_of_size(2**31 - 1, 1),
}


def picture_body(data):
    return image_body(data_url(data))


# Bodies by what is wrong with them, as (body, status, code).
REFUSED = [
    pytest.param(make(case), status, code, id=f"{code}: {name}")
    for cases, make, status, code in (
        (NOT_JSON, bytes, 400, "not_json"),
        (NOT_AN_OBJECT, bytes, 400, "not_an_object"),
        (NO_IMAGE, bytes, 400, "no_image"),
        (NOT_A_DATA_URL, image_body, 400, "not_a_data_url"),
        (NOT_BASE64, lambda text: image_body("data:image/png;base64," + text), 400, "not_base64"),
        (NOT_A_PICTURE, picture_body, 400, "not_a_picture"),
        (TOO_LARGE, picture_body, 413, "picture_too_large"),
    )
    for name, case in cases.items()
]


# Pillow warns of the bomb, where the server's log shows it, and the size is refused all the same.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("body", "status", "code"), REFUSED)
def test_predict_bad_body_is_refused(reader, body, status, code):
    message = assert_error(post(reader, body), status, code)
    assert "PNG" in message or code != "not_a_picture"


@pytest.mark.parametrize(
    "announced",
    ["image/jpeg", "image/x-portable-graymap", "image/svg+xml", "image/vnd.x_1-2", "application/octet-stream", ""],
)
def test_predict_announced_type_is_not_used(reader, announced):
    assert post(reader, image_body(data_url(PNG).replace("image/png", announced))).status_code == 200


@pytest.mark.parametrize("size", [MAX_BYTES + 1, MAX_BYTES + 2, MAX_BYTES + 3])
def test_predict_picture_over_the_limit_of_bytes_is_refused_with_its_size(reader, size):
    message = assert_error(post(reader, image_body(data_url(bytes(size)))), 413, "picture_too_large")
    assert message == f"The picture has {size:,} bytes; at most {MAX_BYTES:,} are read."


@pytest.mark.parametrize(
    "content_type",
    [None, "", "json", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data"],
)
def test_predict_content_type_other_than_json_is_refused(reader, content_type):
    assert_error(post(reader, json.dumps(ONE), content_type), 415, "not_json")


def test_predict_body_larger_than_the_limit_is_refused(reader):
    body = json.dumps(ONE).encode()
    assert post(reader, body.ljust(MAX_BODY_BYTES)).status_code == 200
    message = assert_error(post(reader, body.ljust(MAX_BODY_BYTES + 1)), 413, "body_too_large")
    assert message == f"The request has {MAX_BODY_BYTES + 1:,} bytes; at most {MAX_BODY_BYTES:,} are read here."


def test_predict_picture_of_ten_megabytes_is_read(reader):
    data = PNG + bytes(MAX_BYTES - len(PNG))
    assert post(reader, image_body(data_url(data))).status_code == 200


def test_predict_needs_and_sets_no_cookie(shared_app):
    client = shared_app.test_client(use_cookies=False)
    response = client.post("/predict", json=ONE, headers={"Origin": "https://elsewhere.example"})
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    assert not [name for name, _ in response.headers if name.startswith("Access-Control")]


def test_predict_png_cut_anywhere_never_fails(reader):
    for length in range(0, len(PNG), 7):
        assert post(reader, picture_body(PNG[:length])).status_code in (200, 400)


def test_predict_without_a_version_answers_503(app, client):
    with services(app).database.writing() as session:
        session.execute(delete(Promotion))
    message = assert_error(client.post("/predict", json=ONE), 503, "no_version")
    assert "make setup" in message


def test_predict_blank_picture_loads_no_weights(app, client, monkeypatch):
    """Nothing is to be read, so the answer comes before the network is loaded."""
    monkeypatch.setattr(ActiveModel, "_weights", lambda *_: pytest.fail("the weights were loaded"))
    assert client.post("/predict", json={"image": data_url(encoded(blank()))}).status_code == 200
