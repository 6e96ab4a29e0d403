"""What the worst pictures take to be refused, and the largest to be opened."""

import contextlib
import io
import resource
import time

import numpy as np
import pytest
from PIL import Image

from model.imaging.decode import PictureError, open_picture
from model.imaging.decoder_process import MAX_SECONDS
from tests.support.hostile_pictures import HOSTILE

pytestmark = pytest.mark.stress


def processor_seconds(data: bytes) -> float:
    def used():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    began = used()
    with contextlib.suppress(PictureError):
        open_picture(data)
    return used() - began


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_picture_takes_little_time(name):
    assert processor_seconds(HOSTILE[name]()) < 2


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_largest_picture_takes_little_time(format):
    noise = np.random.default_rng(1).integers(0, 12, (500, 500), np.uint8)
    sheet = Image.fromarray(np.tile(200 + noise, (10, 10))).convert("RGB")
    options = {"TIFF": {"compression": "tiff_adobe_deflate"}, "WEBP": {"method": 0}, "AVIF": {"speed": 10}}
    file = io.BytesIO()
    sheet.save(file, format, **options.get(format, {}))
    assert processor_seconds(file.getvalue()) < MAX_SECONDS / 2
