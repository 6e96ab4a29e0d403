"""WSGI middleware and what belongs to it: access log, security headers, static files, compression, session cookies.

Imports settings, logs and metrics. Used by the application, http, the views, the server and setup.
"""
