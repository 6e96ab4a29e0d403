"""The multilayer perceptron in torch, as it is trained, and its weights in and out.

Imports inference for the format of the weights. Used by data, evaluation, training and the worker.
"""
