"""Requests and answers: their typed classes, parsing, errors, authentication, and the API's description made of them.

Imports services and presentation; knows no single page. Used by the views.
"""
