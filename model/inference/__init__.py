"""A trained version in service: files of weights, the MLP in numpy, the classifier and its decisions.

All that a web process needs to read digits: imports imaging and reaches no torch. Used by the web, evaluation and
training.
"""
