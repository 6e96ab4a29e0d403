"""One road from picture to answer: canvas, gallery and command line read the same digit alike."""

import json
import threading

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from model.cli import main
from tests.support.requests import data_url, encoded
from webapp.services import services
from webapp.versions.test_predictions import PredictionStore
from webapp.worker.artifacts import claim, compute

POSTED = 300
CANVAS = 280


@pytest.fixture(scope="module")
def library(shared_app):
    """The gallery's knowledge, with the version's predictions computed as the worker does it."""
    found = services(shared_app)
    assert claim(found.database) == ("predictions", 1)
    compute(found.settings, found.database, "predictions", 1, threading.Event())
    return PredictionStore(found.settings, found.database)


def enlarged(image) -> Image.Image:
    """A digit of MNIST, uint8 (28, 28), in dark ink on white paper, as large as a canvas."""
    return Image.fromarray(255 - image).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)


def post(client, data, image_type="png"):
    response = client.post("/predict", json={"image": data_url(data, image_type)})
    assert response.status_code == 200
    return response.get_json()


def test_test_digit_drawn_on_the_canvas_is_read_as_in_the_gallery(reader, library):
    """All that the canvas does to a digit (enlarging, cropping, fitting, centring) changes hardly an answer."""
    answers = [post(reader, encoded(enlarged(image), compress_level=1)) for image in library.images()[:POSTED]]
    posted = np.array([answer["top"][0]["digit"] for answer in answers])
    gallery = library.readings(1).predicted[:POSTED]
    assert (posted == gallery).mean() >= 0.99
    assert {answer["version"] for answer in answers} == {"v1"}


def pictures(images) -> dict[str, tuple[Image.Image, str, str]]:
    """Pictures of every kind: the file's name -> picture, Pillow's format, and the type in a data URL."""
    plain = [enlarged(image) for image in images]
    chance = np.random.default_rng(8)
    noisy = (np.asarray(plain[3]) + chance.normal(0, 12, (CANVAS, CANVAS))).clip(0, 255).astype(np.uint8)
    cut_out = Image.new("RGBA", (CANVAS, CANVAS), (200, 30, 30, 255))
    cut_out.putalpha(ImageOps.invert(plain[4]))
    made = {
        **{f"plain{number}": picture for number, picture in enumerate(plain)},
        "bright": ImageOps.invert(plain[0]),
        "coloured": ImageOps.colorize(plain[1], (20, 60, 160), (250, 240, 210)),
        "palette": plain[2].convert("RGB").quantize(16),
        "noisy": Image.fromarray(noisy),
        "cut-out": cut_out,
        "small": plain[5].resize((40, 40)),
        "large": plain[6].resize((1500, 1500)),
        "wide": plain[7].resize((900, 120)),
        "turned": plain[8].rotate(25, fillcolor=255),
        "blurred": plain[9].filter(ImageFilter.GaussianBlur(9)),
        "one pixel": Image.new("L", (1, 1), 255),
        "blank": Image.new("L", (CANVAS, CANVAS), 255),
    }
    found = {f"{name}.png": (picture, "PNG", "png") for name, picture in made.items()}
    for name in ("plain0", "coloured", "noisy", "blank"):
        found[f"{name}.jpg"] = made[name].convert("RGB"), "JPEG", "jpeg"
        found[f"{name}.webp"] = made[name].convert("RGB"), "WEBP", "webp"
    return found


def test_command_line_and_route_agree_on_every_picture(reader, library, tmp_path, capsys):
    posted = {}
    for name, (picture, image_format, image_type) in pictures(library.images()[100:115]).items():
        data = encoded(picture, image_format)
        (tmp_path / name).write_bytes(data)
        posted[str(tmp_path / name)] = post(reader, data, image_type)
    assert main(["predict", "--json", *posted]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed) == len(posted) > 30
    for answer in printed:
        route = posted[answer.pop("picture")]
        assert answer == {name: route[name] for name in answer}
        assert set(answer) >= {"verdict", "digits", "reason", "top", "probabilities", "not_a_digit"}
    assert {"blank", "digit"} <= {answer["verdict"] for answer in printed}
