"""What the project draws itself: skeletons, ink, digits and what is no digit."""

import math

import numpy as np
import pytest
import torch

from model.data import figures, glyphs, hands, rasterize, synthetic
from model.task import DIGITS, REASONS

SHAPES = [shape for shapes in glyphs.DIGITS.values() for shape in shapes]
SHAPES += [*glyphs.SLASHES, *glyphs.LETTERS, *(shape for hand in hands.HANDS for shape in hand.shapes), *hands.LETTERS]
SHAPES += [*figures.ALPHABETS, *figures.DOODLES, *figures.FRAMES, *figures.SIGNS]


def passes_its_points(shape):
    form = glyphs.skeleton(shape)
    line = form.curve @ form.controls
    apart = np.abs(line[:, None] - form.controls[None]).sum(2)
    return (
        form.curve.sum(1) == pytest.approx(1, abs=1e-5)
        and apart.min(0).max() < 0.01  # every control is on the line
        and np.linalg.norm(np.diff(line, axis=0), axis=1).max() < 170  # a stroke's end to the next one's start
        and -35 < line.min() < line.max() < 135
    )


def test_skeleton_any_shape_passes_its_points():
    assert [shape for shape in SHAPES if not passes_its_points(shape)] == []


def test_skeleton_corners_are_sharp_and_curves_round():
    corner = glyphs.skeleton("0,0! 100,0! 100,100!")
    line = corner.curve @ corner.controls
    assert np.all((np.abs(line[:, 1]) < 1e-4) | (np.abs(line[:, 0] - 100) < 1e-4))
    bow = glyphs.skeleton("0,0 50,50 100,0")
    line = bow.curve @ bow.controls
    steps = np.diff(line, axis=0)
    turns = np.diff(np.arctan2(steps[:, 1], steps[:, 0]))
    assert np.abs(turns).max() < 0.3


def test_skeletons_of_every_digit_have_forms():
    forms = glyphs.digits()
    assert sorted(forms) == list(range(10)) and min(map(len, forms.values())) >= 5
    plain = {len(form.controls) for form in forms[0][: len(glyphs.DIGITS[0])]}
    crossed = [form for form in forms[0] if len(form.controls) - 2 in plain]
    assert len(crossed) >= len(glyphs.SLASHES)


def test_letters_come_from_own_hands_and_fonts():
    own = len(glyphs.LETTERS)
    assert len(glyphs.letters()) == own + len(glyphs.HERSHEY_FONTS) * len(glyphs.HERSHEY_LETTERS)
    assert not set(glyphs.HERSHEY_LETTERS) & set("0123456789OoQDIilLZzSsBbGgqtTJj|/")  # what looks like a digit


def test_figures_leave_the_kept_hands_their_characters():
    shared = figures.HERSHEY.keys() & hands.HERSHEY.keys()
    assert shared and not any(set(figures.HERSHEY[font]) & set(hands.HERSHEY[font]) for font in shared)
    assert not {*figures.ALPHABETS, *figures.DOODLES} & set(hands.LETTERS)


def test_figures_frames_surround_their_digits():
    frames = [glyphs.skeleton(frame) for frame in figures.FRAMES]
    drawn = figures.framed()
    assert len(drawn) % len(frames) == 0
    for number, form in enumerate(drawn):
        frame = frames[number // (len(drawn) // len(frames))].controls
        inside = form.controls[len(frame) :]
        assert (inside > frame.min(0)).all() and (inside < frame.max(0)).all()


def test_figures_faces_are_all_combinations():
    parts = figures.OUTLINES, figures.EYES, figures.MOUTHS, figures.HEADS
    faces = figures.doodles()[-math.prod(map(len, parts)) :]
    assert len({form.controls.tobytes() for form in faces}) == len(faces)


@pytest.mark.parametrize("width", [1.5, 3.0, 6.0])
def test_ink_fills_the_box_and_keeps_its_centre(width):
    form = glyphs.skeleton("50,0! 5,95! 95,95! 51,2!")
    points = torch.from_numpy(form.curve @ form.controls)[None]
    image = rasterize.draw(points * 7 - 300, torch.tensor([width]), torch.tensor([1.0]))[0].numpy()
    inked = np.argwhere(image > 64)
    assert abs((inked.max(0) - inked.min(0) + 1).max() - 20) <= 1
    mass = image.astype(float)
    centre = [(mass.sum(1 - axis) * np.arange(28)).sum() / mass.sum() for axis in (0, 1)]
    assert centre == pytest.approx([14, 14], abs=0.7)


def test_ink_is_as_wide_as_the_pen():
    points = torch.stack((torch.full((100,), 3.0), torch.linspace(0, 10, 100)), 1)[None]
    for width in (2.0, 4.0, 7.0):
        image = rasterize.draw(points, torch.tensor([width]), torch.tensor([1.0]))[0].float() / 255
        assert float(image[14].sum()) == pytest.approx(width, abs=0.15)


def test_ink_of_repeated_last_points_is_the_same():
    form = glyphs.skeleton("85,2! 25,4! 18,45 55,38 85,60 75,92 40,100 8,90")
    points = torch.from_numpy(form.curve @ form.controls)[None]
    longer = torch.cat((points, points[:, -1:].expand(-1, 80, -1)), 1)
    width, edge = torch.tensor([2.0]), torch.tensor([1.0])
    assert torch.equal(rasterize.draw(points, width, edge), rasterize.draw(longer, width, edge))


@pytest.mark.parametrize("count", [0, 1, 7, 10, 99])
def test_drawn_gives_as_many_as_asked_for(count):
    for made, low, high in ((synthetic.digits, 0, 9), (synthetic.others, 10, 13)):
        images, labels = made(count, 3)
        assert images.shape == (count, 28, 28) and images.dtype == np.uint8
        assert labels.shape == (count,) and labels.dtype == np.int64
        assert all(low <= label <= high for label in labels)
        assert (images.reshape(count, -1).max(1) > 200).all() if count else True


@pytest.mark.parametrize("made", [synthetic.digits, synthetic.others])
def test_drawn_seed_repeats_the_drawings(made):
    (first, labels), (again, same), (other, _) = made(60, 5), made(60, 5), made(60, 6)
    assert np.array_equal(first, again) and np.array_equal(labels, same)
    assert not np.array_equal(first, other)


def test_drawn_shares_of_digits_and_reasons_are_kept():
    assert np.bincount(synthetic.digits(500, 1)[1]).tolist() == [50] * 10
    assert np.bincount(synthetic.others(600, 1)[1])[DIGITS:].tolist() == [100, 100, 100, 300]


def test_drawn_is_what_its_label_says():
    images, labels = synthetic.others(600, 2)
    ink = {reason: images[labels == DIGITS + i] > 128 for i, reason in enumerate(REASONS)}
    filled = {reason: some.mean((1, 2)) for reason, some in ink.items()}
    assert filled["dot"].min() > 0.2 and filled["dot"].max() < 0.5  # a disc of 20 pixels in 28
    assert filled["unlike_any_digit"].mean() < 0.25
    long = [max(some.any(0).sum(), some.any(1).sum()) / min(some.any(0).sum(), some.any(1).sum())
            for some in ink["several"]]  # fmt: skip
    assert np.median(long) > 1.3  # side by side


def test_drawn_digits_are_read(shipped_network):
    """The shipped network has learnt from drawings of other seeds; and the drawings look like digits."""
    images, labels = synthetic.digits(1_000, 31_415)
    with torch.inference_mode():
        read = shipped_network(torch.from_numpy(images).flatten(1) / 255)[:, :10].argmax(1).numpy()
    assert (read == labels).mean() > 0.8
