"""Download of files that a client names by URL, and requests of filters to other services.

`guard.py` decides which URLs and addresses are allowed. Connections are opened only in sessions of `client.py`.
"""
