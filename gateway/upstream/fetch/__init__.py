"""Files that a client names by URL, read from the network on its behalf.

`guard.py` decides which URLs and addresses are allowed; only `client.py` opens connections.
"""
