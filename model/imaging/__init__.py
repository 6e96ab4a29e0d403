"""From the bytes of a picture file to ink, and from ink to the digit image that the network sees.

Knows Pillow and numpy; imports `model.task` alone. Used by inference, data, evaluation and the web.
"""
