"""The web server's worker class: keeps connections alive, never waits for a client, refuses requests under overload.

Extends gunicorn's sync worker. Imports http (its error answers), middleware, corrections (a size limit), services and
logs. Used by gunicorn.conf.py alone.
"""
