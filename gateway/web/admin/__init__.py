"""The HTTP API for operators and callers, with one file for each resource.

`problems.py` has the errors of `/aperture/`. The HTML pages are in `gateway/web/dashboard/`.
"""
