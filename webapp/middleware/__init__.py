"""Parts that every request and answer passes: access log, security headers, static files, session cookies.

Imports settings, logs and metrics. Used by the application, the views and the server.
"""
