"""How well a version reads: accuracy and calibration, robustness, the comparison of two versions, doubtful labels.

Imports data, network, inference and imaging. Used by training, the command line and the worker.
"""
