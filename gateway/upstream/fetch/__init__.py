"""Fetching of files that a client names by URL.

`guard.py` decides which URLs and addresses are allowed; only `client.py` opens connections.
"""
