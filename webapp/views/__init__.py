"""Pages and JSON routes, one module for each: read the request, ask the rooms below, render the answer.

No view imports another one, except the two halves of a reading. Used by the application alone.
"""
