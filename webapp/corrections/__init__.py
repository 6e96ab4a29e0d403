"""Corrections as rows: taking them in, reviewing them, and files of digits in and out.

Imports storage and, of `model`, imaging and data. Used by training, the views and the worker.
"""
