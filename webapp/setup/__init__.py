"""Set-up and operation: installing and upgrading, the copy into PostgreSQL, and the process above supervisord.

May import every room except views and worker. Used by the command line.
"""
