"""What a network learns from, batch by batch."""

import numpy as np
import pytest
import torch

from model.data.corrections import Corrections
from model.data.loader import MAX_COPIES, REDRAW_EPOCHS, SYNTHETIC_SHARE, TrainingData


@pytest.fixture(scope="module")
def digits(mnist):
    return mnist.subset(200).train


def everything(material, epoch):
    batches = list(material.epoch(epoch, 64))
    return torch.cat([batch.inputs for batch in batches]), torch.cat([batch.labels for batch in batches])


def test_material_plain_digits_are_as_they_are(digits):
    material = TrainingData(digits, 1, deformed=False, drawings=False, refused=False)
    inputs, labels = everything(material, 1)
    assert len(material) == len(labels) == 200
    assert torch.equal(labels.bincount(), digits.labels.bincount())
    found = sorted(map(bytes, (inputs * 255).round().to(torch.uint8).numpy()))
    assert found == sorted(map(bytes, digits.images.flatten(1).numpy()))


@pytest.mark.parametrize("refused", [False, True])
def test_material_drawings_come_beside_digits(digits, refused):
    material = TrainingData(digits, 1, deformed=True, drawings=True, refused=refused)
    inputs, labels = everything(material, 1)
    drawn = round(200 * SYNTHETIC_SHARE)
    assert len(material) == len(labels) == 200 + drawn * (2 if refused else 1)
    assert int((labels > 9).sum()) == (drawn if refused else 0)
    assert inputs.dtype == torch.float32 and inputs.min() >= 0 and inputs.max() <= 1


def test_material_drawings_are_renewed_after_some_epochs(digits):
    material = TrainingData(digits, 1, deformed=False, drawings=True, refused=True)

    def drawings(epoch):
        inputs, labels = everything(material, epoch)
        return inputs[labels > 9].sum(0)

    first = drawings(1)
    for epoch in (2, REDRAW_EPOCHS):
        assert torch.allclose(drawings(epoch), first, atol=1e-3)
    assert not torch.allclose(drawings(REDRAW_EPOCHS + 1), first, atol=1e-3)


def test_material_same_arguments_give_the_same_batches(digits):
    first, again, other = (
        everything(TrainingData(digits, seed, deformed=True, drawings=True, refused=True), 1) for seed in (3, 3, 4)
    )
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def corrections(labels, held_out=None):
    count = len(labels)
    images = np.full((count, 28, 28), 3, np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None]
    held_out = np.zeros(count, bool) if held_out is None else np.array(held_out)
    return Corrections(images, np.array(labels, np.int64), held_out, np.arange(count))


@pytest.mark.parametrize("count, copies", [(1, 20), (2, 10), (40, 1)])
def test_material_corrections_are_repeated_until_they_count(digits, count, copies):
    material = TrainingData(
        digits, 1, deformed=False, drawings=False, refused=True, corrections=corrections([7] * count)
    )
    batches = list(material.epoch(1, 64))
    marked = torch.cat([batch.labels[batch.is_correction] for batch in batches])
    assert marked.tolist() == [7] * (count * copies)
    inputs = torch.cat([batch.inputs[batch.is_correction] for batch in batches])
    assert inputs.max() < 0.3, "these and no others are marked"
    assert len(material) == 200 + count * copies


def test_material_one_correction_is_not_repeated_without_end(mnist):
    material = TrainingData(mnist.train, 1, deformed=False, drawings=False, refused=True, corrections=corrections([7]))
    assert len(material) == len(mnist.train) + MAX_COPIES


@pytest.mark.parametrize("refused, labels", [(True, {3, 13}), (False, {3})])
def test_material_no_digits_are_for_networks_that_refuse(digits, refused, labels):
    material = TrainingData(digits, 1, deformed=True, drawings=True, refused=refused, corrections=corrections([3, 10]))
    for epoch in (1, 2, REDRAW_EPOCHS + 1):
        batches = list(material.epoch(epoch, 64))
        assert set(torch.cat([batch.labels[batch.is_correction] for batch in batches]).tolist()) == labels


def test_material_epoch_does_not_depend_on_earlier_ones(digits):
    going = TrainingData(digits, 5, deformed=True, drawings=True, refused=True)
    for epoch in (1, 2):
        everything(going, epoch)
    fresh = TrainingData(digits, 5, deformed=True, drawings=True, refused=True)
    for mine, its in zip(everything(going, 3), everything(fresh, 3), strict=True):
        assert torch.equal(mine, its)


def test_material_batch_is_never_a_single_picture(digits):
    material = TrainingData(digits, 1, deformed=False, drawings=False, refused=True, corrections=corrections([7]))
    for size in range(2, 75):
        lengths = [len(batch.labels) for batch in material.epoch(1, size)]
        assert sum(lengths) == len(material) and 1 < min(lengths) <= max(lengths) <= size
