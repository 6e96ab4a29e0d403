"""Training in one or several processes, packaging the result as a version, reproducing a version byte for byte.

Imports every other room of `model`. Used by the command line and the worker's child processes.
"""
