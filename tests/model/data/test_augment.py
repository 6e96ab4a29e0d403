"""Deformed digits: still what preprocessing would make, never twice the same, repeatable by seed."""

import math

import pytest
import torch
import torch.nn.functional as F

from model.data.augment import Deformer, Ranges, _sample, support_function

NOTHING = Ranges(rotation=0, shear=0, stretch=0, size=0, shift=0, elastic=0, thickness=0, fade=0, gain=0, widening=0)
SOME = torch.arange(300)


@pytest.fixture(scope="module")
def images(mnist):
    return mnist.train.images[:300]


def deformed(deformer, index=SOME):
    """The pictures float32 (B, 28, 28) at `index`, in its order."""
    inputs, order = deformer.batch(index)
    assert torch.equal(order.sort().values, index.sort().values)
    place = order.argsort(stable=True)[index.argsort(stable=True).argsort(stable=True)]
    return inputs.t()[place].float().view(-1, 28, 28)


def extents(pictures):
    """The longer side of each picture's ink in pixels: (N,)."""
    inked = pictures > 0.25
    return torch.maximum(inked.any(1).sum(1), inked.any(2).sum(1))


def centres(pictures):
    """The centres of mass, (N, 2) as row and column; MNIST's own lie within half a pixel of 14."""
    mass, places = pictures.sum((1, 2)), torch.arange(28.0)
    return torch.stack((pictures.sum(2) @ places / mass, pictures.sum(1) @ places / mass), 1)


def test_deform_batch_is_what_the_network_takes(images):
    inputs, order = Deformer(images, 0).batch(torch.tensor([7, 7, 3]))
    assert inputs.shape == (784, 3) and inputs.dtype == torch.bfloat16
    assert inputs.min() >= 0 and inputs.max() <= 1
    assert sorted(order.tolist()) == [3, 7, 7]
    first, second = inputs.t()[order == 7]
    assert not torch.equal(first, second)


def test_deform_strongest_stays_in_range(images):
    ranges = Ranges(rotation=3, shear=1, stretch=1, size=1, shift=9, elastic=9, gain=5)
    batch = deformed(Deformer(images, 0, ranges))
    assert batch.isfinite().all() and batch.min() >= 0 and batch.max() <= 1


def test_deform_keeps_box_and_centre(images):
    deformer = Deformer(images, 1)
    pictures = torch.cat([deformed(deformer) for _ in range(10)])
    sides = extents(pictures).float()
    assert 20 <= sides.mean() <= 22  # a wider pen adds a little
    assert ((sides >= 17) & (sides <= 25)).float().mean() > 0.97
    off = centres(pictures) - 14
    assert off.mean(0).abs().max() < 0.15
    assert (off.abs().amax(1) < 2.5).float().mean() > 0.97


def test_deform_every_part_of_the_strength_counts(images):
    still = deformed(Deformer(images, 3, NOTHING))
    for name, value in vars(Ranges()).items():
        moved = deformed(Deformer(images, 3, Ranges(**vars(NOTHING) | {name: value})))
        assert (moved - still).abs().mean() > 0.002, name


def test_deform_without_strength_changes_little(images):
    pictures = deformed(Deformer(images, 2, NOTHING))
    apart = (pictures - images / 255).abs().mean((1, 2))
    assert apart.median() < 0.001
    assert apart.max() < 0.1  # of a digit that does not quite fill its box


def test_deform_rotation_alone_turns(images):
    """A bar turned by an exact angle and fitted into the box again: its direction, read off its second moments."""
    bar = torch.zeros(1, 28, 28, dtype=torch.uint8)
    bar[0, 4:24, 13:15] = 255
    only_turn = Ranges(**vars(NOTHING) | {"rotation": math.radians(30)})
    deformer = Deformer(bar, 5, only_turn)
    few = torch.zeros(20, dtype=torch.int64)
    pictures = torch.cat([deformed(deformer, few) for _ in range(20)])
    place = torch.arange(28.0) - 13.5
    xy = (pictures * place[:, None] * place).sum((1, 2))
    yy_less_xx = (pictures * (place[:, None] ** 2 - place**2)).sum((1, 2))
    tilts = torch.atan2(2 * xy, yy_less_xx) / 2
    assert tilts.abs().max() < math.radians(31) and tilts.abs().max() > math.radians(25)
    assert abs(tilts.mean()) < math.radians(4)
    assert abs(extents(pictures).float().mean() - 20) < 1


def test_deform_seed_repeats_the_sequence(images):
    first, again, other = (Deformer(images, seed) for seed in (4, 4, 5))
    for _ in range(3):
        batch = deformed(first)
        assert torch.equal(batch, deformed(again))
        assert not torch.equal(batch, deformed(other))


def test_deform_leaves_images_and_random_state(images):
    before, state = images.clone(), torch.get_rng_state()
    Deformer(images, 6).batch(SOME)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_support_function_agrees_with_the_slow_one(images):
    fast = support_function(images[:20])
    for image, support in zip(images[:20], fast, strict=True):
        inked = [(x - 13.5, y - 13.5) for y in range(28) for x in range(28) if image[y, x] > 64]
        for k in range(0, 64, 5):
            angle = 2 * math.pi * k / 64
            farthest = max(math.cos(angle) * x + math.sin(angle) * y for x, y in inked) + 0.5
            assert support[k].item() == pytest.approx(max(farthest, 0.5), abs=1e-4)


def test_deform_image_without_ink_is_left():
    empty = torch.zeros(3, 28, 28, dtype=torch.uint8)
    assert support_function(empty).isfinite().all()
    assert torch.equal(deformed(Deformer(empty, 0), torch.arange(3)), torch.zeros(3, 28, 28))


def test_deform_many_images_in_parts_is_the_same(images):
    many = images.repeat(5, 1, 1)
    assert torch.equal(support_function(many)[1200:1500], support_function(images))


def test_deform_any_number_of_digits_works(images):
    for count in (1, 2, 5, 255, 257, 512, 513, 1030):
        inputs, order = Deformer(images, 7).batch(torch.arange(count) % 300)
        assert inputs.shape == (784, count)
        assert torch.equal(order.bincount(minlength=300), (torch.arange(count) % 300).bincount(minlength=300))
        assert (inputs.sum(0) > 5).all()


def test_sampling_agrees_with_torchs_own(images):
    """Bilinear, with paper around the field."""
    deformer = Deformer(images, 9, Ranges(**vars(NOTHING) | {"rotation": 1, "shear": 1, "shift": 9, "elastic": 3}))
    index = torch.arange(16)
    maps = deformer._linear_maps(8) * 1.5
    state = deformer.random.get_state()
    rows, weights = deformer._sampling_weights(maps)
    columns = deformer._as_columns(index)
    fast = _sample(columns, rows[0], weights[0]).float().t().view(-1, 28, 28)
    deformer.random.set_state(state)
    torch.rand(8, generator=deformer.random)  # for the ink
    grid = torch.stack([each[0].t().view(8, 28, 28) for each in deformer._sampling_grid(maps)], 3)
    grid = ((grid + 0.5) * 2 / 28 - 1).repeat_interleave(2, 0)
    slow = F.grid_sample(images[:16, None] / 255, grid, align_corners=False)[:, 0]
    apart = (fast - slow).abs()
    assert apart.mean() < 1e-3 and (apart < 0.02).float().mean() > 0.999  # beyond the border's pixels all is paper
