"""What a network learns from, batch by batch."""

import pytest
import torch

from model.material import DRAWN_SHARE, REDRAWN, Material


@pytest.fixture(scope="module")
def digits(mnist):
    return mnist.subset(200).train


def everything(material, epoch):
    batches = list(material.epoch(epoch, 64))
    return torch.cat([inputs for inputs, _ in batches]), torch.cat([labels for _, labels in batches])


def test_plain_digits_as_they_are(digits):
    material = Material(digits, 1, deformed=False, drawings=False, refused=False)
    inputs, labels = everything(material, 1)
    assert len(material) == len(labels) == 200
    assert torch.equal(labels.bincount(), digits.labels.bincount())
    found = sorted(map(bytes, (inputs * 255).round().to(torch.uint8).numpy()))
    assert found == sorted(map(bytes, digits.images.flatten(1).numpy()))


@pytest.mark.parametrize("refused", [False, True])
def test_drawings_beside_them(digits, refused):
    material = Material(digits, 1, deformed=True, drawings=True, refused=refused)
    inputs, labels = everything(material, 1)
    drawn = round(200 * DRAWN_SHARE)
    assert len(material) == len(labels) == 200 + drawn * (2 if refused else 1)
    assert int((labels > 9).sum()) == (drawn if refused else 0)
    assert inputs.dtype == torch.float32 and inputs.min() >= 0 and inputs.max() <= 1


def test_the_drawings_are_made_anew_after_some_epochs(digits):
    material = Material(digits, 1, deformed=False, drawings=True, refused=True)

    def drawings(epoch):
        inputs, labels = everything(material, epoch)
        return inputs[labels > 9].sum(0)

    first = drawings(1)
    for epoch in (2, REDRAWN):
        assert torch.allclose(drawings(epoch), first, atol=1e-3)
    assert not torch.allclose(drawings(REDRAWN + 1), first, atol=1e-3)


def test_the_same_arguments_give_the_same_batches(digits):
    first, again, other = (
        everything(Material(digits, seed, deformed=True, drawings=True, refused=True), 1) for seed in (3, 3, 4)
    )
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_any_epoch_may_come_first(digits):
    inputs, labels = everything(Material(digits, 1, deformed=True, drawings=True, refused=True), 2)
    assert len(inputs) == len(labels) >= 200
