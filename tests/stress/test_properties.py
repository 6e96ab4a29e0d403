"""What holds for any input whatever, tried on a few in make test and on thousands in make stress."""

import functools
import io
import json
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw, ImageOps
from sqlalchemy import delete, select

from model.imaging.decode import PictureError, open_picture
from model.imaging.normalise import digit_image
from model.task import BOX, NO_DIGIT
from tests.conftest import TOKEN
from tests.support.administrator import BROWSER, SCRIPT
from tests.support.forms import forms
from tests.support.mutation import Blow
from tests.support.requests import INTERNALS
from webapp.corrections import digit_files, exports
from webapp.corrections.import_digits import store
from webapp.corrections.store import NOT_A_DIGIT
from webapp.services import services
from webapp.settings import Settings, SettingsError
from webapp.storage.schema import Correction

SIDE = 120


def holds(check, count: int, **given_what) -> None:
    """Tries `check` on so many examples of what is given."""
    allowed = [HealthCheck.too_slow, HealthCheck.data_too_large]
    examples(max_examples=count, deadline=None, suppress_health_check=allowed)(given(**given_what)(check))()


# Pictures

PLACE = st.floats(15, SIDE - 15)  # no pen reaches the edge
STROKES = st.lists(st.lists(st.tuples(PLACE, PLACE), min_size=1, max_size=6), min_size=1, max_size=4)
COLOUR = st.tuples(*[st.integers(0, 255)] * 3)
PEN = st.integers(1, 25)


def drawn(strokes, pen, paper, ink, side=SIDE) -> Image.Image:
    picture = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(picture)
    for stroke in strokes:
        points = [(round(x), round(y)) for x, y in stroke]
        draw.line(points, ink, pen, "curve")
        for x, y in points:
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), ink)
    return picture


def assert_digit_image(image) -> None:
    """Bright ink on black, in a box of 20 pixels that it fills in one direction or the other."""
    assert image.shape == (28, 28) and image.dtype == np.uint8
    rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
    size = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert BOX - 2 <= max(size) <= BOX


@forms("count", 30, 20_000)
def test_picture_of_any_strokes_and_colours_gives_a_digit_image(count):
    def check(strokes, pen, paper, ink):
        image = digit_image(drawn(strokes, pen, paper, ink))
        if image is not None:
            assert_digit_image(image)
        contrast = np.ptp([paper, ink], axis=0).max()
        if contrast == 0:
            assert image is None
        if contrast > 64 and pen > 1:
            assert image is not None

    holds(check, count, strokes=STROKES, pen=PEN, paper=COLOUR, ink=COLOUR)


@forms("count", 12, 10_000)
def test_picture_moved_or_inverted_gives_the_same_digit_image(count):
    def check(strokes, pen, at):
        plain = drawn(strokes, pen, "white", "black", 2 * SIDE)
        image = digit_image(plain)
        # moved as it is: drawn elsewhere, a line may have another pixel
        assert np.array_equal(digit_image(ImageChops.offset(plain, *at)), image)
        assert np.abs(digit_image(ImageOps.invert(plain)).astype(int) - image).max() <= 3

    inside = st.integers(5, SIDE - 5)
    holds(check, count, strokes=STROKES, pen=PEN, at=st.tuples(inside, inside))


@forms("count", 40, 20_000)
def test_picture_of_any_pixels_gives_a_digit_image_or_none(count):
    def check(mode, size, data):
        pixels = data.draw(st.binary(min_size=1, max_size=400))
        channels = {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "I;16": 2}.get(mode, 1)
        needed = size[0] * size[1] * channels
        picture = Image.frombytes("L" if mode in ("1", "P") else mode, size, (pixels * needed)[:needed])
        file = io.BytesIO()
        picture.convert(mode).save(file, "JPEG" if mode == "CMYK" else "PNG")
        try:
            image = digit_image(open_picture(file.getvalue()))
        except PictureError:
            return
        assert image is None or image.shape == (28, 28) and image.any()

    side = st.integers(1, 60)
    modes = st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
    holds(check, count, mode=modes, size=st.tuples(side, side), data=st.data())


# Settings


@forms("count", 50, 20_000)
def test_settings_of_any_environment_are_read_or_refused(tmp_path, count):
    odd = st.text(max_size=20) | st.integers().map(str) | st.sampled_from(
        ["sqlite:///x.db", "postgresql://h/d", "sqlite://", "mysql://x", "redis://h/0", "://", "1", "0", "127.0.0.1"]
    )  # fmt: skip
    variables = [variable for variable in Settings.variables() if variable != "DATA_DIR"]

    def check(environ):
        try:
            settings = Settings.read({"DATA_DIR": str(tmp_path), **environ})
        except SettingsError as error:
            assert str(error)
            return
        assert 1 <= settings.port <= 65535 and settings.web_concurrency >= 1 and settings.database_url

    holds(check, count, environ=st.dictionaries(st.sampled_from(variables), odd))


# Requests

NAMES = ["image", "images", "meant", "preset", "epochs", "seed", "corrections", "reason", "action", "ids", "label",
         "state", "batch", "processes"]  # fmt: skip
SCALARS = st.sampled_from(
    [None, True, False, 0, -1, 7, 2**31, 10**400, 0.5, float("inf"), float("nan"), "", "7", "approve", "relabel",
     "refuse", "received", "seed", "\ud800", "\0", "data:image/png;base64,", NOT_A_DIGIT]
) | st.integers() | st.text(max_size=10)  # fmt: skip
OBJECTS = st.dictionaries(
    st.sampled_from(NAMES),
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)),
    max_size=4,
)
BODIES = OBJECTS.map(json.dumps) | st.builds(
    lambda depth, opened, inside: opened * depth + inside, st.sampled_from([1, 900, 50_000]),
    st.sampled_from(["[", '{"image":', '{"ids":[']), st.sampled_from(["", "1", "null", "]"])
) | st.lists(st.sampled_from(NAMES), min_size=2, max_size=2).map(lambda names: "{" + ",".join(
    f'"{name}":1' for name in names) + "}")  # fmt: skip
ADDRESSES = [
    "/predict", "/feedback", "/admin/retrain", "/admin/runs/1/cancel", "/admin/corrections/decide",
    "/admin/corrections/undo", "/admin/corrections/import", "/admin/versions/1/promote", "/admin/versions/1/roll-back",
    "/admin/versions/2/promote", "/admin/corrections/removal", "/admin/corrections/remove",
    "/admin/versions/1/remove", "/admin/runs/1/remove",
]  # fmt: skip


def assert_never_fails(answer, json_too=True) -> None:
    assert answer.status_code < 500, answer.get_data()[:500]
    said = answer.get_data().decode(errors="replace")
    assert not INTERNALS.search(said) and TOKEN not in said
    if json_too and answer.status_code >= 400:
        assert set(answer.get_json()["error"]) >= {"code", "message"}


@forms("count", 75, 30_000)
def test_request_with_any_body_never_fails(client, count):
    def check(address, body, content_type):
        assert_never_fails(client.post(address, data=body.encode(errors="surrogatepass"),
                                       content_type=content_type, headers=SCRIPT))  # fmt: skip

    types = st.sampled_from(["application/json"] * 8 + ["application/x-www-form-urlencoded", "multipart/form-data; b"])
    holds(check, count, address=st.sampled_from(ADDRESSES), body=BODIES, content_type=types)


WORDS = st.sampled_from(["0", "1", "9", "-1", "2147483648", "9" * 30, "right", "wrong", "sure", "received", "approved",
                         "", "v1", "\u0661", "null", "1.0"]) | st.text(max_size=8)  # fmt: skip
PARAMETERS = st.dictionaries(
    st.sampled_from(["true", "predicted", "outcome", "order", "version", "page", "state", "before", "part", "x"]),
    WORDS | st.lists(WORDS, max_size=2), max_size=4,
)  # fmt: skip
VIEWS = ["/gallery", "/gallery/7", "/gallery/progress", "/gallery/sprite/1-0123456789ab.png", "/admin", "/admin/runs/1",
         "/admin/versions", "/admin/versions/1", "/admin/promotions", "/admin/removals", "/admin/corrections",
         "/admin/sign-in", "/admin/corrections/export.npz", "/admin/corrections/1/picture.png"]  # fmt: skip


@forms("count", 60, 20_000)
def test_page_with_any_parameters_never_fails(client, count):
    def check(address, parameters, headers):
        answer = client.get(address, query_string=parameters, headers=SCRIPT | headers)
        assert_never_fails(answer, json_too=not headers)

    holds(check, count, address=st.sampled_from(VIEWS), parameters=PARAMETERS, headers=st.sampled_from([{}, BROWSER]))


# Files of corrections


def digit_image_of(seed: int, grey: int) -> bytes:
    """Any pixels in the 20-pixel box."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 4:24] = np.random.default_rng(seed).integers(0, grey, (20, 20), np.uint8, endpoint=True)
    image[14, 14] = grey
    return image.tobytes()


IMAGE = st.builds(digit_image_of, st.integers(0, 2**32), st.integers(1, 255))
ROW = st.tuples(IMAGE, st.integers(0, NO_DIGIT), st.booleans(), st.sampled_from("abc"))


def corrections(rows) -> list[Correction]:
    """Rows that could be in the database."""
    return [
        Correction(id=number, digit_image=image, label=label, meant=label, held_out=held_out, submitter=source,
                   state="approved")
        for number, (image, label, held_out, source) in enumerate(rows, 1)
    ]  # fmt: skip


@forms("count", 8, 3_000)
@pytest.mark.parametrize("kind", ["npz", "zip"])
def test_export_imported_comes_back_the_same(app, settings, kind, count):
    found = services(app)

    def check(rows):
        bundle = digit_files.inspect(packed(corrections(rows), kind)).unpack()
        assert [image.tobytes() for image in bundle.images] == [image for image, *_ in rows]
        assert bundle.labels.tolist() == [label for _, label, *_ in rows]
        assert same_parts(bundle.groups.tolist(), [source for *_, source in rows])
        with found.database.writing() as session:
            session.execute(delete(Correction))
        first, again = (store(found.database, found.corrections, bundle, "0", at_once=2) for _ in range(2))
        assert 0 < first <= len(rows) and again == 0
        with found.database.reading() as session:
            assert len(session.scalars(select(Correction)).all()) == first

    holds(check, count, rows=st.lists(ROW, min_size=1, max_size=5))


def packed(rows, kind: str) -> bytes:
    return b"".join(exports.as_npz(rows, tempfile.gettempdir()) if kind == "npz" else exports.as_pngs(rows))


def same_parts(some: list, others: list) -> bool:
    """Whether two lists of names part their places in the same way."""
    return [some.index(one) for one in some] == [others.index(one) for one in others]


@functools.cache
def sound_archives() -> tuple[bytes, ...]:
    rows = corrections([(bytes(392) + bytes(range(196)) * 2, label, False, "a") for label in range(3)])
    return packed(rows, "npz"), packed(rows, "zip")


@forms("count", 75, 100_000)
def test_archive_damaged_is_read_or_refused(count):
    def check(archive, chance):
        data = bytearray(sound_archives()[archive])
        for _ in range(chance.randint(1, 4)):
            Blow.draw(chance).fall(data)
        try:
            bundle = digit_files.inspect(bytes(data)).unpack()
        except digit_files.ImportRefused as error:
            assert str(error).endswith(".") and "\n" not in str(error)
        else:
            assert bundle.images.shape == (len(bundle), 28, 28) and set(bundle.labels) <= set(range(NO_DIGIT + 1))

    holds(check, count, archive=st.integers(0, 1), chance=st.randoms(use_true_random=False))
