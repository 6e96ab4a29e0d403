"""Storage: schema and migrations, database engine, secret key, comparison of stored times, disk reserve,
which workers are alive, what tells the health.

Imports settings, private_files and, of `model`, inference.weights; knows no request and no picture. Used by
every room that stores something.
"""
