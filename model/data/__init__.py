"""Digits to learn from and to measure with: MNIST, corrections, pen strokes, digits that the project draws itself.

Imports imaging; only what makes tensors imports torch. Used by evaluation, training and,
for MNIST's test set and `.npz` files, the web.
"""
