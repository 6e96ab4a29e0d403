"""The worker and its child processes, which train, compute artifacts of versions, check labels and import digits.

Imports auth, training, versions, corrections, storage and, in the functions of its child processes only, the rooms of
`model` with torch. Started by the command line; never imports views, nor they it.
"""
