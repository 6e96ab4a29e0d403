"""Measure what a run leaves out as near copies of drawings held out: python -m benchmarks.near_copies

Prints for some limits on the cosine how many of MNIST's first 12,000 training digits are above it, of each digit, if
every twenty digits in their order are one hand and every fifth hand is held out; and how many real copies are: the
first 1,000 digits, seven times as large, changed a little and normalised again.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from model.data import mnist
from model.imaging.normalise import digit_image
from model.task import DIGITS
from webapp.corrections.store import HELD_OUT_EVERY, NEAR_COPY, NEARLY_SAME, near_copies, similarity

COUNT, OF_ONE_HAND, COPIES = 12_000, 20, 1_000
LIMITS = NEARLY_SAME, 0.99, NEAR_COPY
LARGE = 210


def main() -> None:
    images, labels = mnist.read_training()
    held_out = np.arange(COUNT) // OF_ONE_HAND % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    learnt, labels = images[:COUNT][~held_out], labels[:COUNT][~held_out]
    others = images[:COUNT][held_out]
    near = [near_copies(learnt, others, limit) for limit in LIMITS]
    print("limit", *(f"{limit:>8}" for limit in LIMITS))
    for digit in range(DIGITS):
        print(f"{digit:>5}", *(f"{each[labels == digit].mean():>8.1%}" for each in near))
    print("  all", *(f"{each.mean():>8.1%}" for each in near))
    for name, edit in EDITS.items():
        cosines = np.array([cosine_with_copy(image, edit) for image in images[:COPIES]])
        print(name, *(f"{np.mean(cosines >= limit):>8.1%}" for limit in LIMITS))


def cosine_with_copy(image: np.ndarray, edit) -> float:
    size = LARGE, LARGE
    picture = Image.fromarray(255 - np.pad(image, 1)).resize(size, Image.Resampling.BICUBIC)
    one, other = digit_image(picture), digit_image(edit(picture))
    assert one is not None and other is not None
    return float(similarity(one, other[None])[0])


def as_jpeg(picture: Image.Image) -> Image.Image:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=60)
    return Image.open(out)


EDITS = {
    "pen a tenth wider": lambda picture: picture.filter(ImageFilter.MinFilter(3)),
    "shifted by a pixel": lambda picture: ImageChops.offset(picture, 1, 1),
    "saved as a JPEG": as_jpeg,
}


if __name__ == "__main__":
    main()
