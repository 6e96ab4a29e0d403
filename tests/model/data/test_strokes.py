"""Strokes files, good and bad, and drawings of them."""

import gzip
import json

import numpy as np
import pytest

from model.data import strokes
from model.data.strokes import Drawing, Look, StrokesError, draw
from model.imaging.normalise import digit_image

SEVEN = {"label": "7", "writer": "somebody", "strokes": [[0, 0, 600, 0, 200, 1000], [100, 500, 500, 500]]}
LETTER = {"label": "K", "strokes": [[0, 0, 0, 1000.5], [500, 0, 0, 500, 500, 1000]]}


def write(folder, *lines, name="some.jsonl.gz"):
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / name).write_bytes(gzip.compress(b"\n".join(texts) + b"\n"))
    return folder


def drawing(*points):
    return Drawing(None, (np.array(points, float),))


def ink_box(picture):
    """Left, top, right and bottom of the ink, in shares of the canvas."""
    dark = np.asarray(picture) < 128
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / len(dark)


def test_strokes_of_all_files_of_a_folder_are_read(tmp_path):
    write(tmp_path, LETTER, LETTER, name="b-others.jsonl.gz")
    write(tmp_path, SEVEN, name="a-digits.jsonl.gz")
    (tmp_path / "README.md").write_text("not a drawing")
    seven, letter, _ = strokes.read_folder(tmp_path)
    assert (seven.digit, letter.digit) == (7, None)
    assert [stroke.shape for stroke in seven.strokes] == [(3, 2), (2, 2)]
    assert seven.strokes[0][1].tolist() == [600, 0]


@pytest.mark.parametrize("label", ["12", "", "-1", "\u0667", "seven"])
def test_strokes_only_one_ascii_digit_is_a_digit(tmp_path, label):
    assert strokes.read_folder(write(tmp_path, SEVEN | {"label": label}))[0].digit is None


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"",
        b"\xff",
        b"[" * 5000,
        [],
        {"strokes": [[0, 0]]},
        {"label": 7, "strokes": [[0, 0]]},
        {"label": "7"},
        {"label": "7", "strokes": []},
        {"label": "7", "strokes": [[]]},
        {"label": "7", "strokes": [[1, 2, 3]]},
        {"label": "7", "strokes": [["1", "2"]]},
        {"label": "7", "strokes": [[True, 2]]},
        {"label": "7", "strokes": [[float("nan"), 2]]},
        {"label": "7", "strokes": [[1e300, 2]]},
        {"label": "7", "strokes": [0, 0]},
    ],
)
def test_strokes_bad_line_is_named(tmp_path, line):
    with pytest.raises(StrokesError, match=r"some\.jsonl\.gz, line 2: "):
        strokes.read_folder(write(tmp_path, SEVEN, line, SEVEN))


def test_strokes_bad_file_is_named(tmp_path):
    whole = write(tmp_path, *[SEVEN] * 300) / "some.jsonl.gz"
    data = whole.read_bytes()
    for damaged in (b"", b"not gzip", data[:-12], data[:30] + b"\xff\xff\xff\xff" + data[34:], data[:-6] + b"\0" * 6):
        whole.write_bytes(damaged)
        with pytest.raises(StrokesError, match=r"some\.jsonl\.gz|holds no drawings"):
            strokes.read_folder(tmp_path)


def test_strokes_folder_without_drawings_is_named(tmp_path):
    with pytest.raises(StrokesError, match="holds no drawings"):
        strokes.read_folder(tmp_path)
    with pytest.raises(StrokesError, match="is not a folder"):
        strokes.read_folder(tmp_path / "absent")


def test_strokes_have_the_size_place_and_pen_asked_for():
    slope = drawing((0, 0), (500, 1000))
    plain = ink_box(draw(slope, Look(size=0.5, pen=14)))
    assert plain == pytest.approx([0.35, 0.225, 0.65, 0.775], abs=0.01)
    assert ink_box(draw(slope, Look(size=0.5, pen=14, x=-1, y=1))) == pytest.approx([0, 0.45, 0.3, 1], abs=0.01)
    picture = np.asarray(draw(drawing((0, 0), (1000, 0)), Look(pen=20)))
    assert picture.shape == (280, 280) and picture.dtype == np.uint8
    assert (picture[:, 140] < 128).sum() == pytest.approx(20, abs=1)
    assert picture.max() == 255 and picture.min() == 0


def test_strokes_turn_clockwise():
    left, top, right, bottom = ink_box(draw(drawing((0, 0), (0, 1000)), Look(angle=45, pen=4)))
    assert right - left == pytest.approx(bottom - top, abs=0.01)
    picture = np.asarray(draw(drawing((0, 0), (0, 1000)), Look(angle=15, pen=4)))
    first, last = (np.flatnonzero(row < 128).mean() for row in (picture[60], picture[220]))
    assert first > last, "what was up lies to the right"


@pytest.mark.parametrize("points", [[(5, 5)], [(5, 5), (5, 5)], [(0, 0), (0, 1e-12)]])
def test_strokes_dot_is_as_wide_as_the_pen(points):
    left, top, right, bottom = ink_box(draw(drawing(*points), Look(pen=28)))
    assert (right - left, bottom - top) == pytest.approx((0.1, 0.1), abs=0.02)


def test_strokes_of_any_look_leave_ink(tmp_path):
    (seven,) = strokes.read_folder(write(tmp_path, SEVEN))
    for look in (Look(), Look(0.15, 4, 15, 1, 1), Look(0.9, 40, -15, -1, 1)):
        assert digit_image(draw(seven, look)) is not None
