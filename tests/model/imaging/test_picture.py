"""From a picture to a digit image: what may change without changing the reading, and what is refused."""

from __future__ import annotations

import functools
import io
import itertools
import math
import re
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageOps

from model.data import glyphs
from model.data.strokes import Drawing, Look
from model.data.strokes import draw as drawn_strokes
from model.imaging.decode import DECODED_APART, FORMATS, MAX_BYTES, PictureError, PictureTooLarge, open_picture
from model.imaging.normalise import digit_image
from model.inference.classifier import SHIPPED
from model.network.mlp import to_tensor
from model.network.weights import load_network
from tests.support import heic

SIDE = 280


def written(digit, hand, random):
    """The strokes of a digit in one way of writing it, turned by up to ten degrees."""
    strokes = [glyphs.skeleton(stroke) for stroke in glyphs.DIGITS[digit][hand].split("/")]
    angle = math.radians(random.uniform(-10, 10))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return [stroke.curve @ stroke.controls @ turn for stroke in strokes]


def draw(strokes, size=0.6, pen=16, at=(0.5, 0.5), side=SIDE):
    """Black ink on white, L; `at`, from 0 to 1 in each direction, is where between the edges the drawing stands."""
    x, y = 2 * np.array(at) - 1
    return drawn_strokes(Drawing(None, tuple(strokes)), Look(size, pen, 0, x, y), side)


@pytest.fixture(scope="module")
def read():
    """What the shipped network reads in a picture: a digit, or None for a blank one."""
    network, _ = load_network(SHIPPED)

    def read(picture):
        image = digit_image(picture)
        return None if image is None else int(network(to_tensor(image[None]))[0].argmax())

    return read


@pytest.fixture
def random():
    return np.random.default_rng(20)


def everybody(random, hands=3):
    """(digit, strokes) for each digit in about so many hands."""
    for digit in range(10):
        for hand in range(0, len(glyphs.DIGITS[digit]), len(glyphs.DIGITS[digit]) // hands):
            yield digit, written(digit, hand, random)


def somewhere(strokes, random):
    """A drawing of a likely size, pen and place."""
    return draw(strokes, random.uniform(0.25, 0.75), random.uniform(6, 14), random.uniform(0, 1, 2))


def misread(read, random, change, hands=3):
    """The digits that are not read when `change(strokes)` makes the picture: (meant, read)."""
    readings = [(digit, read(change(strokes))) for digit, strokes in everybody(random, hands)]
    return [(meant, got) for meant, got in readings if meant != got]


def encode(picture, format="PNG", **options):
    file = io.BytesIO()
    if format == "HEIC":
        return heic.SEVEN
    if format == "PGM":  # Pillow's name for the whole family is another
        picture, format = picture.convert("L"), "PPM"
    picture.save(file, format, **options)
    return file.getvalue()


def through_file(picture, format="PNG", **options):
    return open_picture(encode(picture, format, **options))


def in_colours(drawing, ink, paper):
    """An L drawing with its black as `ink` and its white as `paper`, RGB."""
    share = np.asarray(drawing, np.float32)[..., None] / 255
    return Image.fromarray((share * np.float32(paper) + (1 - share) * np.float32(ink)).round().astype(np.uint8))


def on_nothing(drawing, ink=(0, 0, 0)):
    """The same drawing as ink on a transparent RGBA picture, as the page sends it."""
    picture = Image.new("RGBA", drawing.size, (*ink, 0))
    picture.putalpha(ImageOps.invert(drawing))
    return picture


def with_light(picture, random, darkest=0.5, vignette=0.0, grain=0.0):
    """An L picture under light that falls off to one side and to the corners, with a camera's grain."""
    y, x = np.mgrid[-1 : 1 : picture.height * 1j, -1 : 1 : picture.width * 1j]
    side = random.uniform(0, 2 * math.pi)
    across = math.cos(side) * x + math.sin(side) * y
    light = darkest + (1 - darkest) * (across - across.min()) / np.ptp(across) - vignette * (x * x + y * y) / 2
    pixels = np.asarray(picture, float) * light + random.normal(0, 255 * grain, light.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def pencil(drawing):
    """A camera sees pencil as dark grey, never as black."""
    return drawing.point(lambda value: 50 + value * 205 // 255)


# One drawing, many pictures


def test_reading_does_not_depend_on_size_place_and_pen(read, random):
    wrong, changed, pairs = 0, 0, 0
    for digit, strokes in everybody(random):
        readings = []
        for size in random.uniform(0.15, 0.9, 6):
            pen = SIDE * size * math.exp(random.uniform(math.log(0.04), math.log(0.22)))
            pen = min(max(pen, 4), 40, SIDE * (1 - size))
            readings.append(read(draw(strokes, size, pen, random.uniform(0, 1, 2))))
        wrong += sum(reading != digit for reading in readings)
        changed += sum(a != b for a, b in itertools.combinations(readings, 2))
        pairs += math.comb(len(readings), 2)
    assert pairs >= 450 and changed <= 0.02 * pairs
    assert wrong <= 3


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_drawing_at_the_edge_is_read(read, random, corner):
    assert len(misread(read, random, lambda strokes: draw(strokes, 0.5, 12, corner), hands=1)) <= 1


def test_digit_image_shifted_by_whole_pixels_is_the_same(random):
    for _, strokes in everybody(random):
        picture = on_nothing(draw(strokes, 0.4, 10, (0.3, 0.3)))
        moved = ImageChops.offset(picture, *(int(step) for step in random.integers(-40, 80, 2)))
        assert np.array_equal(digit_image(picture), digit_image(moved))


@pytest.mark.parametrize("side, size, pen", [(2000, 0.02, 2), (2000, 0.06, 2), (2000, 0.75, 3), (2000, 0.75, 90)])
def test_picture_large_is_read(read, random, side, size, pen):
    hands = [(digit, written(digit, 0, random)) for digit in range(10)]
    assert [read(draw(strokes, size, pen, (0.7, 0.2), side)) for _, strokes in hands] == list(range(10))


@pytest.mark.parametrize("side", [60, 280, 639, 641, 2000])
@pytest.mark.parametrize("grey", [0, 170])
def test_picture_of_a_thin_1_is_read(read, side, grey):
    sheet = Image.new("L", (side, side), 255)
    sheet.paste(grey, (side // 3, 10, side // 3 + 1, 50))
    assert read(sheet) == 1
    assert read(ImageOps.invert(sheet)) == 1
    assert read(on_nothing(sheet)) == 1


def test_picture_of_the_largest_side_keeps_a_thin_1():
    sheet = Image.new("L", (16_000, 250), 255)
    sheet.paste(0, (9_000, 100, 9_001, 140))
    assert digit_image(sheet) is not None


# Colours


def test_picture_in_two_colours_with_contrast_is_read(read, random):
    def change(strokes):
        while True:
            ink, paper = random.integers(0, 256, (2, 3))
            if abs(ink - paper).max() > 64:
                return in_colours(somewhere(strokes, random), ink, paper)

    assert len(misread(read, random, change)) <= 1


def test_digit_image_of_swapped_colours_is_the_same(random):
    for _, strokes in everybody(random):
        drawing = somewhere(strokes, random)
        image = digit_image(drawing).astype(int)
        for other in (ImageOps.invert(drawing), in_colours(drawing, (255, 255, 0), (0, 0, 96)), on_nothing(drawing)):
            assert abs(digit_image(other) - image).max() <= 3


def test_digit_image_of_any_ink_on_nothing_is_the_same(read, random):
    drawn = draw(written(3, 0, random))
    image = digit_image(on_nothing(drawn))
    for colour in [(255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 90)]:
        assert np.array_equal(digit_image(through_file(on_nothing(drawn, colour))), image)
    assert read(on_nothing(drawn)) == 3


def sheet_in_nothing(drawing):
    picture = Image.new("RGBA", (400, 380), (0, 0, 0, 0))
    picture.paste(drawing.convert("RGBA"), (50, 60))
    return picture


def with_transparent_palette_entry(drawing):
    picture = drawing.point(lambda value: value > 127, mode="1").convert("L").point(lambda value: value > 0)
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette([30, 60, 90, 255, 255, 255])
    return through_file(picture, transparency=1)


MODES = {
    "transparent": lambda drawing: through_file(on_nothing(drawing)),
    "sheet with a transparent margin": lambda drawing: through_file(sheet_in_nothing(drawing)),
    "palette": lambda drawing: through_file(in_colours(drawing, (20, 40, 200), (250, 240, 220)).quantize(16)),
    "palette with transparency": with_transparent_palette_entry,
    "grey with alpha": lambda drawing: through_file(on_nothing(drawing).convert("LA")),
    "grey ink on a transparent grey": lambda drawing: through_file(
        drawing.point(lambda value: 10 if value < 128 else 0), transparency=0
    ),
    "grey with a transparent grey": lambda drawing: through_file(drawing, transparency=255),
    "1 bit": lambda drawing: through_file(drawing.convert("1")),
    "1 bit with a transparent bit": lambda drawing: through_file(drawing.convert("1"), transparency=255),
    "16 bits": lambda drawing: through_file(Image.fromarray(np.asarray(drawing).astype(np.uint16) * 257)),
    "CMYK": lambda drawing: through_file(drawing.convert("CMYK"), "JPEG"),
    "JPEG of quality 20": lambda drawing: through_file(drawing.convert("RGB"), "JPEG", quality=20),
    "progressive JPEG": lambda drawing: through_file(drawing, "JPEG", progressive=True),
    "WebP": lambda drawing: through_file(on_nothing(drawing), "WEBP", quality=30),
    "BMP": lambda drawing: through_file(drawing.convert("RGB"), "BMP"),
    "PGM": lambda drawing: through_file(drawing, "PGM"),
    "PGM with bright ink": lambda drawing: through_file(ImageOps.invert(drawing), "PGM"),
    "turned by EXIF": lambda drawing: turned(drawing, "JPEG"),
    "PNG turned by EXIF": lambda drawing: turned(drawing, "PNG"),
    "first frame of an APNG": lambda drawing: animated(drawing, "PNG"),
    "first frame of a WebP": lambda drawing: animated(drawing, "WEBP"),
    "premultiplied": lambda drawing: on_nothing(drawing).convert("RGBa"),
    "32-bit integers": lambda drawing: Image.fromarray(np.asarray(drawing).astype(np.int32) * 257),
    "floats": lambda drawing: drawing.convert("F"),
    "HSV": lambda drawing: drawing.convert("RGB").convert("HSV"),
}


def turned(drawing, format):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture has to be turned by 90 degrees to the right
    return through_file(drawing.transpose(Image.Transpose.ROTATE_90), format, exif=exif)


def animated(drawing, format):
    other = ImageOps.invert(ImageOps.mirror(drawing)).rotate(90)
    return through_file(drawing, format, save_all=True, append_images=[other, other.rotate(90)], duration=100)


@pytest.mark.parametrize("name", MODES)
def test_picture_of_every_mode_is_read(read, random, name):
    assert misread(read, random, lambda strokes: MODES[name](draw(strokes, 0.6, 14)), hands=1) == []


def test_picture_dark_of_16_bits_is_blank(random):
    assert digit_image(Image.fromarray(random.integers(0, 900, (99, 99)).astype(np.uint16))) is None


# Photos


@pytest.mark.parametrize(
    "darkest, vignette, grain",
    [
        (0.3, 0, 0),
        (0.6, 0.1, 0.02),
        pytest.param(0.8, 0, 0, marks=pytest.mark.stress),
        pytest.param(0.8, 0.3, 0, marks=pytest.mark.stress),
    ],
)
def test_photo_in_uneven_light_is_read(read, random, darkest, vignette, grain):
    def change(strokes):
        return with_light(pencil(somewhere(strokes, random)), random, darkest, vignette, grain)

    assert len(misread(read, random, change)) <= 1


@pytest.mark.parametrize("grain", [0.08, *(pytest.param(grain, marks=pytest.mark.stress) for grain in (0.02, 0.05))])
def test_photo_with_grain_is_read(read, random, grain):
    def change(strokes):
        return with_light(somewhere(strokes, random), random, 1, 0, grain)

    assert len(misread(read, random, change)) <= 1


def test_photo_is_read(read, random):
    def photo(strokes):
        drawing = pencil(draw(strokes, random.uniform(0.2, 0.6), 14, random.uniform(0.2, 0.8, 2), 800))
        return through_file(with_light(drawing, random, 0.6, 0.05, 0.03), "JPEG", quality=40)

    assert misread(read, random, photo, hands=1) == []


# Blank


def blanks(random):
    def flat(*colour, side=(280, 280)):
        return Image.new("RGB", side, tuple(int(c) for c in colour))

    def grey(side=280, level=180):
        return Image.new("L", (side, side), level)

    yield from (flat(*colour) for colour in random.integers(0, 256, (20, 3)))
    yield from (Image.new(mode, (90, 60), 0) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"))
    yield Image.new("RGBA", (200, 200), (255, 255, 255, 255))
    yield Image.new("RGBA", (200, 200), (10, 20, 30, 0))
    for grain in (0.02, 0.05, 0.1):
        noisy = with_light(grey(), random, 1, 0, grain)
        yield from (noisy, through_file(noisy, "JPEG", quality=20), with_light(grey(20), random, 1, 0, grain))
        yield Image.merge("RGB", [with_light(grey(), random, 1, 0, grain) for _ in range(3)])
    for darkest in (0.9, 0.6, 0.2):
        for _ in range(6):
            lit = with_light(grey(level=250), random, darkest, 0.1, 0.005)
            yield from (lit, through_file(lit, "JPEG", quality=20))
    yield with_light(grey(1800), random, 0.7, 0.1, 0.03)
    yield from (flat(7, 7, 7, side=side) for side in [(1, 1), (1, 9), (9, 1), (2, 2), (3, 3), (1, 2000), (2000, 1)])


def test_picture_blank_gives_no_digit_image(random):
    assert [(blank.mode, blank.size) for blank in blanks(random) if digit_image(blank) is not None] == []


def test_picture_of_few_pixels_does_not_fail(random):
    for width, height in itertools.product((1, 2, 3, 5), repeat=2):
        for mode in ("1", "L", "RGB", "RGBA", "LA"):
            channels = len(Image.new(mode, (1, 1)).getbands())
            pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
            picture = Image.frombytes("L" if mode == "1" else mode, (width, height), pixels.tobytes()).convert(mode)
            image = digit_image(picture)
            assert image is None or image.shape == (28, 28)


# MNIST's own digits


NEAREST, BICUBIC = Image.Resampling.NEAREST, Image.Resampling.BICUBIC


@pytest.mark.parametrize("enlarged, most", [(None, 0.01), (NEAREST, 0.03), (BICUBIC, 0.04)])
def test_digit_image_of_mnist_is_as_it_was(mnist, read, enlarged, most):
    network, _ = load_network(SHIPPED)
    images = mnist.test.images[:200].numpy()
    through = []
    for i, image in enumerate(images):
        picture = through_file(Image.fromarray(255 - image if i % 2 else image))
        through.append(digit_image(picture.resize((280, 280), enlarged) if enlarged is not None else picture))
    through = np.stack(through)
    assert np.abs(through.astype(float) - images).mean() / 255 < most
    same = network(to_tensor(images)).argmax(1) == network(to_tensor(through)).argmax(1)
    assert same.float().mean() >= 0.99


# Against a slow, obvious road


def slow_digit_image(drawing):
    """Black ink on white, L, to a digit image by the plainest sums: average over areas, then move to the centre."""
    ink = 255 - np.asarray(drawing, float)
    rows, columns = np.flatnonzero((ink > 64).any(1)), np.flatnonzero((ink > 64).any(0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = max(ink.shape) / 20
    box = np.zeros([max(1, round(length / scale)) for length in ink.shape])
    step_y, step_x = ink.shape[0] / box.shape[0], ink.shape[1] / box.shape[1]
    for y, x in np.ndindex(box.shape):
        ys = overlap(y * step_y, (y + 1) * step_y, ink.shape[0])
        xs = overlap(x * step_x, (x + 1) * step_x, ink.shape[1])
        box[y, x] = ys @ ink @ xs
    mass_y, mass_x = (np.average(np.arange(n), weights=box.sum(1 - axis)) for axis, n in enumerate(box.shape))
    top = min(max(round(14 - mass_y), 0), 28 - box.shape[0])
    left = min(max(round(14 - mass_x), 0), 28 - box.shape[1])
    field = np.zeros((28, 28))
    field[top : top + box.shape[0], left : left + box.shape[1]] = box
    return field


def overlap(start, end, length):
    """How much of [start, end) lies in each of `length` unit cells, as shares of the whole."""
    cells = np.arange(length)
    return (np.minimum(end, cells + 1) - np.maximum(start, cells)).clip(0) / (end - start)


def test_digit_image_agrees_with_the_slow_road(random):
    apart = []
    for _, strokes in everybody(random):
        drawing = draw(strokes, random.uniform(0.4, 0.8), random.uniform(22, 30), random.uniform(0, 1, 2))
        fast, slow = digit_image(drawing).astype(float), slow_digit_image(drawing)
        # where the centre of mass lies half-way between two pixels, either is right
        shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
        apart.append(min(np.abs(np.roll(fast, shift, (0, 1)) - slow).mean() / 255 for shift in shifts))
    assert np.median(apart) < 0.012
    assert max(apart) < 0.05  # a side rounded to one pixel more or less


def test_digit_image_fills_its_box_and_is_centred(random):
    for _, strokes in everybody(random):
        drawing = draw(strokes, random.uniform(0.3, 0.8), random.uniform(16, 26), random.uniform(0, 1, 2))
        image = digit_image(drawing)
        assert image.dtype == np.uint8 and image.shape == (28, 28) and image.max() > 200
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        left, top, right, bottom = ImageOps.invert(drawing).getbbox()
        assert max(height, width) == 20
        assert abs(width / height - (right - left) / (bottom - top)) < 0.08
        for axis, extent in enumerate((rows, columns)):
            centre = np.average(np.arange(28), weights=image.sum(1 - axis))
            at_the_edge = extent[0] == 0 or extent[-1] == 27
            assert abs(centre - 14) <= 0.5 or at_the_edge


def test_to_tensor_of_images_scales_and_flattens():
    images = np.arange(2 * 784, dtype=np.int64).reshape(2, 28, 28).astype(np.uint8)
    for given in (images, torch.from_numpy(images)):
        tensor = to_tensor(given)
        assert tensor.shape == (2, 784) and tensor.dtype == torch.float32
        assert np.allclose(tensor.numpy() * 255, images.reshape(2, 784))
    assert images.max() == 255  # the given pixels stay as they were


# Grey pictures on even paper are a short cut: in three equal channels they are none


def on_paper(random, ink):
    """An L picture of one grey with a drawing's strokes in `ink`, at most a full range from it, in its middle."""
    paper = int(random.integers(0, 256))
    drawn = draw(written(int(random.integers(10)), 0, random), 0.6, 14, side=int(random.integers(30, 99)))
    other = 255 if paper < 128 else 0
    pixels = paper + ((255 - np.asarray(drawn)) / 255 * ink * (other - paper)).astype(int)
    return Image.fromarray(np.pad(pixels.astype(np.uint8), 1, constant_values=paper))


def smallest(random):
    """A few marks, or none, on even paper."""
    pixels = np.zeros(random.integers(1, 7, 2), np.uint8)
    for _ in range(random.integers(6)):
        pixels[tuple(random.integers(pixels.shape))] = random.integers(256)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("ink", [0.02, 0.12, 0.25, 0.5, 1, None])
def test_digit_image_grey_on_even_paper_same_as_in_colour(random, ink):
    for _ in range(30):
        picture = smallest(random) if ink is None else on_paper(random, ink)
        found, longer = digit_image(picture), digit_image(picture.convert("RGB"))
        assert (found is None) == (longer is None)
        assert found is None or np.array_equal(found, longer)


# Bad files


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, before=b"", after=b"", pixels=b"\0" * 110):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(pixels)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@functools.cache
def packed(megabytes):
    """That many megabytes of nothing, compressed: 70 of them are 68 kB."""
    pack = zlib.compressobj(9)
    return b"".join(pack.compress(bytes(1_000_000)) for _ in range(megabytes)) + pack.flush()


def true_black_png(side):
    pack = zlib.compressobj(9)
    pixels = b"".join(pack.compress(bytes(side + 1)) for _ in range(side)) + pack.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def with_size(data, place, size, layout):
    """A valid file whose header says another size."""
    return data[:place] + struct.pack(layout, *size) + data[place + struct.calcsize(layout) :]


def jpeg_of_a_size(size):
    data = encode(sample("L"), "JPEG")
    return with_size(data, data.index(b"\xff\xc0") + 5, size, ">HH")


def webp_of_a_size(side):
    """An animation, whose frames may be smaller than its canvas: nothing else in the file contradicts the size."""
    data = encode(sample("L"), "WEBP", save_all=True, append_images=[sample("L").rotate(90)])
    return data[:24] + (side - 1).to_bytes(3, "little") * 2 + data[30:]


def jpeg_with_scans(scans):
    data = encode(sample("RGB"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def stepped_bmp():
    """One whose rows are packed by runs (RLE8), of one pixel each: Pillow goes through them in Python."""
    runs = b"\1\5" * 500_000
    header = struct.pack("<IiiHHIIiiII", 40, 2_000, 2_000, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + header + bytes(1024) + runs


def sample(mode):
    """A drawing with some grain, so that no format packs it into nothing."""
    random = np.random.default_rng(8)
    return with_light(draw(written(8, 0, random), side=120), random, 0.8, 0, 0.02).convert(mode)


TOO_LARGE = {
    "one byte more than 10 MB": lambda: encode(sample("L")).ljust(MAX_BYTES + 1, b"\0"),
    "8,000 x 8,000": lambda: true_black_png(8_000),
    "20,000 x 20,000": lambda: png(20_000, 20_000),
    "5,001 x 5,000": lambda: png(5_001, 5_000),
    "1 x 2,147,483,647": lambda: png(1, 2**31 - 1),
    "2,147,483,647 x 1": lambda: png(2**31 - 1, 1),
    "1 x 20,000": lambda: png(1, 20_000, pixels=bytes(40_000)),
    "a JPEG of 65,535 x 65,535": lambda: jpeg_of_a_size((65_535, 65_535)),
    "a WebP of 16,384 x 16,384": lambda: webp_of_a_size(16_384),
    "a WebP of 12,000 x 12,000": lambda: webp_of_a_size(12_000),
    "a BMP of 60,000 x 60,000": lambda: with_size(encode(sample("RGB"), "BMP"), 18, (60_000, 60_000), "<ii"),
    "a PGM of 60,000 x 60,000": lambda: b"P5 60000 60000 255\n" + bytes(99),
    "a PGM of 1 x 20,000": lambda: b"P5 1 20000 255\n" + bytes(20_000),
    "a BMP upside down": lambda: with_size(encode(sample("RGB"), "BMP"), 18, (-1, -(2**31)), "<ii"),
}
BAD = {
    "nothing": lambda: b"",
    "text": lambda: b"seven, in words",
    "a signature alone": lambda: b"\x89PNG\r\n\x1a\n",
    "a PNG of 0 x 0": lambda: png(0, 0),
    "a PNG of 9 x 0": lambda: png(9, 0),
    "a JPEG of 0 x 0": lambda: jpeg_of_a_size((0, 0)),
    "a BMP of 0 x 0": lambda: with_size(encode(sample("RGB"), "BMP"), 18, (0, 0), "<ii"),
    "too few pixels": lambda: png(100, 100),
    "a PGM of 0 x 9": lambda: b"P5 0 9 255\n",
    "a PGM of 0 x 0": lambda: b"P5 0 0 255\n",
    "a PGM with a pixel too many": lambda: b"P5 2 2 255\n" + bytes(5),
    "a PGM with a pixel too few": lambda: b"P5 2 2 255\n" + bytes(3),
    "a PGM of 16 bits": lambda: b"P5 2 2 65535\n" + bytes(8),
    "a PGM in words": lambda: b"P2 2 2 255\n0 0 0 0",
    "a PGM with a comment": lambda: b"P5 # seven\n2 2 255\n" + bytes(4),
    "a PGM of digits of another script": lambda: "P5 \u0662 \u0662 255\n".encode() + bytes(4),
    "a PGM's header alone": lambda: b"P5 2 2 255",
    "a text of 70 MB": lambda: png(10, 10, chunk(b"zTXt", b"a\0\0" + packed(70))),
    "a text of 70 MB at the end": lambda: png(10, 10, after=chunk(b"zTXt", b"a\0\0" + packed(70))),
    "a long text in Unicode": lambda: png(10, 10, chunk(b"iTXt", b"a\0\1\0\0\0" + packed(70))),
    "900 texts of 1 MB": lambda: png(10, 10, chunk(b"zTXt", b"a\0\0" + packed(1)) * 900),
    "a colour profile of 70 MB": lambda: png(10, 10, chunk(b"iCCP", b"a\0\0" + packed(70))),
    "900 colour profiles of 1 MB": lambda: png(10, 10, chunk(b"iCCP", b"a\0\0" + packed(1)) * 900),
    "a JPEG of 500 scans": lambda: jpeg_with_scans(500),
    "a BMP of a million steps": lambda: stepped_bmp(),
    "noise after a JPEG's signature": lambda: b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4000,
}


@pytest.fixture
def refused():
    """Opens a file that must be refused, without 50 MB more."""
    open_picture(encode(sample("L")))  # what is imported at the first picture does not count

    def refuse(data, error, formats=FORMATS):
        peak = Path("/proc/self/clear_refs")
        if peak.exists():
            peak.write_text("5")  # starts the kernel's measure of the highest memory again
        before = memory()
        with pytest.raises(error) as caught:
            open_picture(data, formats)
        assert memory() - before < 50_000_000
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
        assert isinstance(caught.value, PictureTooLarge) == (error is PictureTooLarge)

    return refuse


def memory():
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024


@pytest.mark.parametrize("name", TOO_LARGE)
def test_picture_too_large_is_refused_before_it_is_unpacked(refused, name):
    refused(TOO_LARGE[name](), PictureTooLarge)


@pytest.mark.parametrize("name", BAD)
def test_picture_bad_is_refused(refused, name):
    data = BAD[name]()
    assert len(data) <= MAX_BYTES // 2
    refused(data, PictureError)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_picture_cut_short_is_refused(refused, format, mode):
    data = encode(sample(mode), format)
    assert open_picture(data).size == (120, 120)
    for twentieth in range(0, 20, 4 if format in DECODED_APART else 1):
        refused(data[: len(data) * twentieth // 20], PictureError)


@pytest.mark.parametrize("named, given", list(itertools.permutations(FORMATS, 2)))
def test_picture_of_another_format_is_refused(refused, named, given):
    refused(encode(sample("RGB"), given), PictureError, formats=(named,))


def test_picture_of_the_largest_size_is_opened():
    for size, opened in [((5_000, 5_000), (1_667, 1_667)), ((16_384, 1_525), (1_639, 153)), ((1, 16_384), (1, 1_639))]:
        assert open_picture(encode(Image.new("L", size, 255))).size == opened


def test_picture_with_odd_metadata_is_opened():
    """Pillow warns of them; as an error, the warning would have refused what a browser shows."""
    entries = b"\x12\x01\x04\0\xff\xff\xff\x0f\0\0\0\0" * 50
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 50) + entries
    assert open_picture(encode(sample("RGB"), "JPEG", exif=exif)).size == (120, 120)
    picture = png(10, 10, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))  # an animation without frames
    assert open_picture(picture).size == (10, 10)
    several = encode(sample("RGB"), "JPEG")
    several = several[:2] + b"\xff\xe2\x00\x30MPF\0II*\0\x08\0\0\0" + b"\1\0" * 17 + several[2:]
    assert open_picture(several).size == (120, 120)


def test_picture_opened_by_many_threads_is_the_same():
    filters = list(warnings.filters)
    files = [encode(sample("L")), png(0, 0)] * 20

    def opens(data):
        try:
            return open_picture(data).size
        except PictureError:
            return None

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(opens, files)) == [(120, 120), None] * 20
    assert warnings.filters == filters
