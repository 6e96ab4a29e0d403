"""What is done before or instead of serving: installing, the copy into PostgreSQL, and the supervisor.

Imports any room but views and worker. Used by the command line.
"""
