"""Postgres and Redis as private child processes, and the process tree of `tunesmith up`.

Both servers come as Python wheels (extra `embedded`) and listen on unix sockets of a private folder only.
"""
