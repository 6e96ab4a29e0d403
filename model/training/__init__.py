"""Training a network, alone or over several processes, up to a version that can be made again byte for byte.

Imports every other room of `model`. Used by the command line and the worker's child processes.
"""
