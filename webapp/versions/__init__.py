"""Trained versions as rows: which one answers here, how that changes, and what a version reads in the test set.

Imports storage and, of `model`, inference. Used by training, the views and the worker.
"""
