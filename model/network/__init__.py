"""The multilayer perceptron in torch: the network, its files of weights, predictions for many images.

Imports inference for the format of the weights. Used by data, evaluation, training and the worker.
"""
