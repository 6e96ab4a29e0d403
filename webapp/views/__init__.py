"""Pages and JSON routes, a module for each group: validate the request, call the rooms below, render the answer.

Imports all rooms below, and never the worker. Used by the application alone.
"""
