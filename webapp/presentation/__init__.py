"""Sentences, charts and figures for people, made from the codes and numbers in the database.

Imports storage, corrections, training and auth. Used by http, the views, the application and setup.
"""
