"""Requests and answers: their typed classes, parsing, errors, authentication, and the OpenAPI description made of them.

Knows no single page. Imports services, presentation, auth, corrections, middleware and storage. Used by the views, the
server and the application.
"""
