"""A trained version where it serves: weights as bytes, the MLP in numpy, and the decision that an answer states.

All that a web process needs to read digits; imports imaging and reaches no torch. Used by the web, evaluation and
training.
"""
