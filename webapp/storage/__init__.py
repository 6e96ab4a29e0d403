"""Data on disk: the schema and its migrations, the engine, the secret key, stored times, spare room on the disk.

Imports settings and exceptions; knows no request and no picture. Used by every room that stores something.
"""
