"""Deformed digits: still what the road to the network would hand on, never twice the same, repeatable by seed."""

import math

import pytest
import torch

from model.deform import Deformer, Ranges, support_function

NOTHING = Ranges(rotation=0, shear=0, stretch=0, size=0, shift=0, elastic=0, thickness=0, fade=0, gain=0, felt=0)
SOME = torch.arange(300)


@pytest.fixture(scope="module")
def images(mnist):
    return mnist.train.images[:300]


def fields(batch):
    return batch.view(-1, 28, 28)


def extents(pictures):
    """The longer side of each picture's ink in pixels: (N,)."""
    inked = pictures > 0.25
    return torch.maximum(inked.any(1).sum(1), inked.any(2).sum(1))


def centres(pictures):
    """The centres of mass, (N, 2) as row and column; MNIST's own lie within half a pixel of 14."""
    mass, places = pictures.sum((1, 2)), torch.arange(28.0)
    return torch.stack((pictures.sum(2) @ places / mass, pictures.sum(1) @ places / mass), 1)


def test_a_batch_is_what_the_network_takes(images):
    batch = Deformer(images, 0).batch(torch.tensor([7, 7, 3]))
    assert batch.shape == (3, 784) and batch.dtype == torch.float32
    assert batch.min() >= 0 and batch.max() <= 1
    assert not torch.equal(batch[0], batch[1])


def test_the_strongest_deformation_stays_in_range(images):
    ranges = Ranges(rotation=3, shear=1, stretch=1, size=1, shift=9, elastic=9, gain=5)
    batch = Deformer(images, 0, ranges).batch(SOME)
    assert batch.isfinite().all() and batch.min() >= 0 and batch.max() <= 1


def test_deformed_digits_keep_their_box_and_centre(images):
    pictures = fields(Deformer(images, 1).batch(SOME))
    sides = extents(pictures).float()
    assert 20 <= sides.mean() <= 22  # a wider pen adds a little
    assert ((sides >= 17) & (sides <= 25)).float().mean() > 0.97
    off = centres(pictures) - 14
    assert off.mean(0).abs().max() < 0.15
    assert (off.abs().amax(1) < 2.5).float().mean() > 0.97


def test_every_part_of_the_strength_deforms(images):
    still = Deformer(images, 3, NOTHING).batch(SOME)
    for name, value in vars(Ranges()).items():
        moved = Deformer(images, 3, Ranges(**vars(NOTHING) | {name: value})).batch(SOME)
        assert (moved - still).abs().mean() > 0.002, name


def test_no_strength_changes_next_to_nothing(images):
    pictures = fields(Deformer(images, 2, NOTHING).batch(SOME))
    apart = (pictures - images / 255).abs().mean((1, 2))
    assert apart.median() < 0.001
    assert apart.max() < 0.1  # of a digit that does not quite fill its box


def test_rotation_alone_turns(images):
    """A bar turned by an exact angle and fitted into the box again: its direction, read off its second moments."""
    bar = torch.zeros(1, 28, 28, dtype=torch.uint8)
    bar[0, 4:24, 13:15] = 255
    only_turn = Ranges(**vars(NOTHING) | {"rotation": math.radians(30)})
    deformer = Deformer(bar, 5, only_turn)
    pictures = fields(deformer.batch(torch.zeros(200, dtype=torch.int64)))
    place = torch.arange(28.0) - 13.5
    xy = (pictures * place[:, None] * place).sum((1, 2))
    yy_less_xx = (pictures * (place[:, None] ** 2 - place**2)).sum((1, 2))
    tilts = torch.atan2(2 * xy, yy_less_xx) / 2
    assert tilts.abs().max() < math.radians(31) and tilts.abs().max() > math.radians(25)
    assert abs(tilts.mean()) < math.radians(4)
    assert abs(extents(pictures).float().mean() - 20) < 1


def test_the_seed_repeats_the_sequence(images):
    first, again, other = (Deformer(images, seed) for seed in (4, 4, 5))
    for _ in range(3):
        batch = first.batch(SOME)
        assert torch.equal(batch, again.batch(SOME))
        assert not torch.equal(batch, other.batch(SOME))


def test_the_images_and_torchs_own_chance_are_left_alone(images):
    before, state = images.clone(), torch.get_rng_state()
    Deformer(images, 6).batch(SOME)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_support_function_against_the_slow_one(images):
    fast = support_function(images[:20])
    for image, support in zip(images[:20], fast, strict=True):
        inked = [(x - 13.5, y - 13.5) for y in range(28) for x in range(28) if image[y, x] > 64]
        for k in range(0, 64, 5):
            angle = 2 * math.pi * k / 64
            farthest = max(math.cos(angle) * x + math.sin(angle) * y for x, y in inked) + 0.5
            assert support[k].item() == pytest.approx(max(farthest, 0.5), abs=1e-4)


def test_an_image_without_ink_is_no_trouble():
    empty = torch.zeros(3, 28, 28, dtype=torch.uint8)
    assert support_function(empty).isfinite().all()
    assert torch.equal(Deformer(empty, 0).batch(torch.arange(3)), torch.zeros(3, 784))


def test_many_images_are_taken_in_parts(images):
    many = images.repeat(5, 1, 1)
    assert torch.equal(support_function(many)[1200:1500], support_function(images))
