"""Runs as rows, and their delivery to a worker: requests, leases, the task queue.

Imports versions, corrections, storage and, of `model`, presets. Used by presentation, the views, set-up and the worker.
"""
