"""Runs as rows, and how they reach a worker: requests, leases, the task queue.

Imports versions, corrections and storage. Used by the views and the worker.
"""
