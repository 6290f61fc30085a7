"""The HTTP API for operators and callers: one file for each resource.

Errors are made in `problems.py`. Pages for people stand in `gateway/web/dashboard/`.
"""
