"""Segmentation: connected components, text lines, candidate cuts and symbols."""

import cv2
import numpy as np
import pytest

from model.data import hands
from model.imaging.cuts import cut
from model.imaging.ink import ink_in_place
from model.imaging.pieces import components, digit_height, extent, join, pen_width, stroke_pieces
from model.imaging.symbols import lean_of, symbol
from model.imaging.text_lines import text_lines
from tests.support.written_numbers import SYMBOLS, picture_of, strokes_of, written

HAND = hands.HANDS[5]


@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_opencv(seed):
    random = np.random.default_rng(seed)
    ink = (random.random((random.integers(1, 60), random.integers(1, 60))) < 0.1 + 0.12 * seed).astype(np.float32)
    found = components(ink)
    count, labels = cv2.connectedComponents(ink.astype(np.uint8))
    assert len(found) == count - 1
    whole = np.zeros_like(ink)
    for piece in found:
        part = whole[piece.top : piece.bottom, piece.left : piece.right]
        label = labels[piece.top : piece.bottom, piece.left : piece.right][piece.ink > 0]
        assert len(set(label.tolist())) == 1 and len(label) == (labels == label[0]).sum()
        part += piece.ink
    assert np.array_equal(whole, ink)


def test_components_of_nothing_are_none():
    assert components(np.zeros((3, 4), np.float32)) == []


def test_pieces_joined_are_their_ink():
    ink = np.zeros((9, 12), np.float32)
    ink[1:4, 2:4] = 0.5
    ink[5:9, 8:11] = 1
    joined = join(components(ink))
    assert (joined.left, joined.top, joined.right, joined.bottom) == (2, 1, 11, 9)
    assert np.array_equal(joined.ink, ink[1:9, 2:11])


def test_strokes_are_pieces_in_their_place():
    strokes = [np.array([(10.0, 20.0), (10.0, 120.0)]), np.array([(200.0, 30.0), (260.0, 110.0)])]
    pieces, frame = stroke_pieces(strokes, 8.0)
    for stroke, piece in zip(strokes, pieces, strict=True):
        expected = [*(stroke.min(0) - 4), *(stroke.max(0) + 4)]
        assert frame.box(extent([piece])) == pytest.approx(expected, abs=3)


def test_pen_is_measured():
    for pen in (5, 9, 16):
        assert pen_width(ink_in_place(picture_of(written("2035", HAND), pen))) == pytest.approx(pen, rel=0.25)


@pytest.mark.parametrize("slope", [-0.15, 0, 0.15])
def test_lines_are_divided_though_they_slope(slope):
    strokes = written("4071\n253", HAND, slope=slope, at=(40, 140))
    lines = text_lines(stroke_pieces(strokes, 9.0)[0])
    count = len(written("4071", HAND))
    assert [len(line) for line in lines] == [count, len(strokes) - count]


def test_touching_digits_are_cut_apart():
    ink = ink_in_place(picture_of(written("57", HAND, gap=6)))
    (whole,) = components(ink)
    parts = cut(whole, digit_height([whole]), pen_width(ink), 0.0)
    assert len(parts) > 1 and parts[-1][1] == 0
    assert np.array_equal(join([part for part, _ in parts]).ink, whole.ink)


def test_narrow_piece_is_not_cut():
    (whole,) = components(ink_in_place(picture_of(written("1", hands.HANDS[3]))))
    assert cut(whole, whole.height, 9.0, 0.0) == [(whole, 0.0)]


@pytest.mark.parametrize("sign", SYMBOLS)
def test_symbols_are_told_by_shape_and_place(sign):
    assert _told(strokes_of(sign, HAND)) == sign


@pytest.mark.parametrize("digit", range(10))
def test_digits_are_no_symbols(digit):
    assert [_told(strokes_of(str(digit), hand)) for hand in hands.HANDS] == [None] * len(hands.HANDS)


def _told(strokes):
    """The symbol told of strokes between digits that reach from 0 to 100."""
    pieces, frame = stroke_pieces([*strokes, np.array([(200.0, 0.0), (200.0, 100.0)])], 9.0)
    *parts, mark = pieces
    return symbol(join(parts), mark.top, mark.bottom, 9.0 * frame.scale, lean_of(mark))
