"""Trained versions as rows: the one that answers in this process, promotions, artifacts, predictions for the test set.

Imports storage, metrics and, of `model`, inference, data.mnist and evaluation.metrics. Used by training, the views and
the worker.
"""
