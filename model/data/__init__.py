"""Digits to train on and to measure with: MNIST, corrections, pen strokes, synthetic digits.

Imports imaging and network. `mnist`, `npz`, `corrections` and `strokes` reach no torch: the web uses the first two.
Used by evaluation and training.
"""
