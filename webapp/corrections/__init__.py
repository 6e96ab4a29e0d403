"""Corrections as rows: storing them, reviewing them, import and export of files of digits.

Imports storage and, of `model`, imaging, data and evaluation. Used by training, the views and the worker.
"""
