"""Writing found in photos, scans and screenshots: each fault drawn with the project's own digits."""

from __future__ import annotations

import io
import itertools
import math
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from model.data import glyphs
from model.data.strokes import Drawing, Look, draw
from model.imaging.normalise import digit_image
from model.imaging.writing import find_writing
from model.inference.classifier import SHIPPED, Classifier
from model.inference.number import read_numbers

SIDE = 320
GREY = (205, 200, 192)
BLUE = (40, 55, 140)
EVERY = (0, 2, 4, 7)


@pytest.fixture(scope="module")
def classifier():
    return Classifier(SHIPPED.read_bytes, "shipped")


@pytest.fixture
def random():
    return np.random.default_rng(16)


def pen(digit, size=0.5, width=11, at=(0.5, 0.5), side=SIDE) -> np.ndarray:
    """Return how much pen is at each pixel, 0 to 1, of a digit in the first way of writing it."""
    strokes = [glyphs.skeleton(stroke) for stroke in glyphs.DIGITS[digit][0].split("/")]
    x, y = 2 * np.array(at) - 1
    drawing = Drawing(None, tuple(stroke.curve @ stroke.controls for stroke in strokes))
    return 1 - np.asarray(draw(drawing, Look(size, width, 0, x, y), side), np.float32) / 255


def sheet(colour=GREY, side=SIDE) -> np.ndarray:
    return np.full((side, side, 3), colour, np.float32)


def write(paper, ink, colour=BLUE) -> np.ndarray:
    return paper + (np.array(colour, np.float32) - paper) * ink[..., None]


def to_picture(pixels, random, grain=2.0) -> Image.Image:
    return Image.fromarray((pixels + random.normal(0, grain, pixels.shape)).clip(0, 255).astype(np.uint8))


def lines(paper, gap, darker, degrees, both=True) -> np.ndarray:
    y, x = np.mgrid[: len(paper), : len(paper)]
    turn = math.radians(degrees)
    along = [y * math.cos(turn) - x * math.sin(turn), x * math.cos(turn) + y * math.sin(turn)]
    for way in along if both else along[:1]:
        paper = paper - darker * ((way + gap / 3) % gap < 3)[..., None]
    return paper


def specks(digit, random):
    paper = sheet()
    for y, x in random.integers(0, SIDE - 2, (25, 2)):
        paper[y : y + 2, x : x + 2] -= 70
    return write(paper, pen(digit, width=6))


def squared(digit, random):
    return write(lines(sheet(), 62, 55, random.uniform(-3, 3)), pen(digit))


def ruled(digit, random):
    return write(lines(sheet(), 80, 90, random.uniform(-3, 3), both=False), pen(digit))


def form(digit, random):
    paper = sheet((250, 250, 250))
    for edge in (20, SIDE - 24):
        paper[edge : edge + 4, 20 : SIDE - 20] = paper[20 : SIDE - 20, edge : edge + 4] = 105
    return write(paper, pen(digit), (110, 110, 110))


def cell(digit, random):
    paper = sheet((250, 250, 250))
    for edge in (18, SIDE - 24):
        paper[edge : edge + 6] = paper[:, edge : edge + 6] = 20
    return write(paper, pen(digit), (70, 70, 70))


def frame(digit, random):
    pixels = write(sheet((255, 255, 255)), pen(digit), (0, 0, 0))
    width = random.integers(1, 7)
    pixels[:width] = pixels[-width:] = pixels[:, :width] = pixels[:, -width:] = 0
    return pixels


def strip(digit, random):
    pixels = write(sheet(), pen(digit))
    pixels[:, :8] = 30
    return pixels


def pasted(digit, random):
    page = sheet((255, 255, 255), 470)
    page[75 : 75 + SIDE, 75 : 75 + SIDE] = write(sheet((210, 210, 210)), pen(digit)) + random.normal(
        0, 3, (SIDE, SIDE, 1)
    )
    return page


def underlined(digit, random):
    paper = sheet((180, 180, 70))
    paper[SIDE - 18 : SIDE - 13] = (30, 90, 60)
    return write(paper, pen(digit, at=(0.5, 0.4)), (30, 90, 60))


def underlined_almost_to_the_edges(digit, random):
    paper = sheet()
    paper[SIDE - 16 : SIDE - 10, 20 : SIDE - 20] = BLUE
    return write(paper, pen(digit, size=0.8, width=24, at=(0.5, 0.45)))


def lighter_in_one_channel(digit, random):
    return write(sheet((180, 180, 60), 160), pen(digit, size=0.6, width=30, side=160), (30, 100, 100))


def oblong_frame(digit, random):
    pixels = write(sheet((255, 255, 255)), pen(digit, width=9), (40, 40, 40))[24:-24, 47:-47]
    pixels[:3] = pixels[-3:] = pixels[:, :3] = pixels[:, -3:] = 20
    return pixels


def broad_strip(digit, random):
    pixels = write(sheet(), pen(digit))
    pixels[:, :16] = 30
    return pixels


def neighbour(digit, random):
    pixels = write(sheet(), pen(digit))
    pixels[-6:, 90:100] = BLUE
    return pixels


def shadow(digit, random):
    y, x = np.mgrid[:SIDE, :SIDE]
    light = np.clip((x + y - SIDE) / 8 + 0.5, 0, 1) * 0.5 + 0.5
    return write(sheet(), pen(digit)) * light[..., None]


def table(digit, random):
    picture = Image.new("RGB", (2 * SIDE, 2 * SIDE), (120, 80, 50))
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).polygon([(150, 140), (500, 170), (480, 520), (130, 490)], fill=255)
    paper = np.where(np.asarray(mask)[..., None] > 0, np.float32(225), np.asarray(picture, np.float32))
    return write(paper, pen(digit, size=0.3, width=14, side=2 * SIDE))


def blackboard(digit, random):
    return write(sheet((40, 60, 50)), pen(digit), (225, 225, 215))


def vignette(digit, random):
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return write(sheet(), pen(digit)) * (1 - 0.25 * (x * x + y * y))[..., None]


KINDS = [
    specks,
    squared,
    ruled,
    form,
    cell,
    frame,
    strip,
    pasted,
    underlined,
    lighter_in_one_channel,
    neighbour,
    shadow,
    table,
    blackboard,
    vignette,
]


def png(picture, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def read(classifier, data, **options):
    return classifier.predict_digit_image(find_writing(data, **options).digit_image())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_photo_with_a_fault_is_read(classifier, random, kind):
    named = {}
    for digit in EVERY:
        found = read(classifier, png(to_picture(kind(digit, random), random, 1.5)))
        named[digit] = found.digits if found.verdict == "digit" else ()
    assert sum(digits == (digit,) for digit, digits in named.items()) >= len(EVERY) - 1, named
    assert all(digits in ((), (digit,)) for digit, digits in named.items()), named


@pytest.mark.parametrize("digit", [1, 4, 7, 9])
def test_photo_straight_stroke_along_a_printed_line_is_kept(classifier, random, digit):
    for gap, turn in itertools.product((24, 30, 40), (-3, 0, 3)):
        pixels = write(lines(sheet(), gap, 60, turn), pen(digit, size=0.6, width=12))
        found = read(classifier, png(to_picture(pixels, random, 1.5)))
        assert (found.verdict, found.digits) == ("digit", (digit,)), (gap, turn)


@pytest.mark.parametrize("kind", [oblong_frame, broad_strip, underlined_almost_to_the_edges], ids=lambda k: k.__name__)
def test_photo_ink_is_without_lines_along_an_edge(random, kind):
    for digit in EVERY:
        left, top, right, bottom = find_writing(png(to_picture(kind(digit, random), random, 1.5))).box
        assert min(left, top) > 0.05 and max(right, bottom) < 0.95, digit


@pytest.mark.parametrize("digit", EVERY)
def test_photo_clean_drawing_gives_the_same_digit_image_as_the_short_way(digit):
    drawing = Image.fromarray((255 * (1 - pen(digit))).astype(np.uint8))
    for picture in (drawing, drawing.convert("RGB"), Image.eval(drawing, lambda value: 255 - value)):
        assert np.array_equal(find_writing(png(picture)).digit_image(), digit_image(picture))


def test_photo_turned_by_its_orientation_gives_the_same_ink(random):
    picture = to_picture(squared(5, random), random)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = png(picture.transpose(Image.Transpose.ROTATE_90), exif=exif)
    upright, found = find_writing(png(picture)), find_writing(turned)
    assert np.array_equal(upright.ink, found.ink) and upright.box == found.box
    assert found.picture.size == found.ink.shape[::-1]


@pytest.mark.parametrize("scale", [0.5, 3])
def test_photo_scaled_is_read_alike(classifier, random, scale):
    pictures = [to_picture(vignette(digit, random), random) for digit in (2, 4, 5)]
    size = round(scale * SIDE), round(scale * SIDE)
    found = [read(classifier, png(picture.resize(size, Image.Resampling.BICUBIC))) for picture in pictures]
    assert [prediction.digits for prediction in found] == [(2,), (4,), (5,)]


def test_photo_box_surrounds_the_writing(random):
    left, top, right, bottom = find_writing(png(to_picture(ruled(3, random), random))).box
    rows, columns = np.nonzero(pen(3) > 0.5)
    expected = columns.min() / SIDE, rows.min() / SIDE, columns.max() / SIDE, rows.max() / SIDE
    assert np.allclose((left, top, right, bottom), expected, atol=0.02)


def test_photo_of_several_digits_keeps_all_and_a_crop_one(classifier, random):
    ink = np.maximum(pen(2, 0.3, 8, (0.2, 0.5)), pen(7, 0.3, 8, (0.8, 0.5)))
    data = png(to_picture(write(sheet(), ink), random))
    both = find_writing(data)
    assert both.box[0] < 0.4 and both.box[2] > 0.6
    right = find_writing(data, crop=(0.5, 0.1, 1, 0.9))
    assert classifier.predict_digit_image(right.digit_image()).digits == (7,)
    assert right.box[0] > 0.5 and right.ink.shape[::-1] == right.picture.size
    assert abs(right.box[3] - both.box[3]) < 0.02


@pytest.mark.parametrize("colour", [(255, 255, 255), (200, 190, 180), (30, 40, 35)])
def test_photo_of_empty_paper_is_blank(random, colour):
    for pixels in (sheet(colour), sheet(colour) * np.linspace(0.7, 1, SIDE)[:, None, None]):
        found = find_writing(png(to_picture(pixels, random, 3)))
        assert found.ink is None and found.box is None and found.digit_image() is None


def test_photo_blurred_is_read(classifier, random):
    pictures = [to_picture(write(sheet(), pen(digit)), random).filter(ImageFilter.GaussianBlur(4)) for digit in (3, 6)]
    assert [read(classifier, png(picture)).digits for picture in pictures] == [(3,), (6,)]


TEXTURES = {
    "stripes": np.arange(1000)[:, None] % 8 < 2,
    "dots": (np.arange(1000) % 4 < 2) & (np.arange(1000)[:, None] % 4 < 2),
    "noise": np.random.default_rng(0).random((1000, 1000)) < 0.05,
    "checks": (np.arange(1000) // 30 + np.arange(1000)[:, None] // 30) % 2 > 0,
}


@pytest.mark.parametrize("texture", TEXTURES.values(), ids=TEXTURES)
def test_photo_of_a_texture_takes_no_longer_than_one_of_writing(classifier, texture):
    data = png(Image.fromarray(np.where(np.broadcast_to(texture, (1000, 1000)), 40, 230).astype(np.uint8)))
    begun = time.process_time()
    found = find_writing(data)
    if found.ink is not None:
        read_numbers(classifier, found.ink)
    # Of the processor; where each component or cut was compared with all others, these took up to 145 s.
    assert time.process_time() - begun < 8


def test_photo_with_round_transparent_corners_is_read_as_without(random):
    picture = to_picture(ruled(5, random), random)
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, SIDE - 1, SIDE - 1), 12, fill=255)
    cut = picture.copy()
    cut.putalpha(mask)
    expected, found = find_writing(png(picture)), find_writing(png(cut))
    assert np.allclose(found.box, expected.box, atol=0.01)


def test_photo_in_a_pgm_is_no_drawing_of_the_page(random):
    picture = to_picture(ruled(5, random), random).convert("L")
    file = io.BytesIO()
    picture.save(file, "PPM")
    assert find_writing(file.getvalue()).picture is not None


def test_drawing_larger_than_the_ink_tells_its_own_size():
    large = Image.fromarray((255 * (1 - pen(4))).astype(np.uint8)).resize((1600, 1200))
    assert find_writing(png(large.convert("RGB"))).size == (1600, 1200)
