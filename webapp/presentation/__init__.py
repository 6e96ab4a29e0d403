"""Sentences, charts and figures for people, made from the codes and numbers that the database holds.

Imports storage and corrections. Used by the requests' and answers' classes, the views and setup.
"""
