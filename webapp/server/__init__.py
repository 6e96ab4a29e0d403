"""The web server's worker: connections kept alive and never waited for, and refusals under overload.

Stands on gunicorn's sync worker. Imports middleware and the error answers. Used by gunicorn.conf.py.
"""
