"""Pictures: from the bytes of a file to ink, and from ink to the digit image that the network sees.

Knows Pillow and numpy; imports `model.task` alone. Used by inference, data, evaluation and the web.
"""
