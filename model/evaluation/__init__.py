"""Evaluation: accuracy and calibration, robustness, comparison of two versions, suspicious labels.

Imports data, network, inference and imaging. Used by training, the command line and the worker; `metrics` and
`label_quality` reach no torch and are used by the web.
"""
