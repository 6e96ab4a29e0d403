"""Removal by an administrator or after the retention: what may go, what goes with it, and its audit.

`webapp.corrections.deletion` deletes single corrections, also for their authors.
"""
