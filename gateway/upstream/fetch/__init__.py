"""Files that a client names by URL, read from the network on its behalf.

`guard.py` says what may be asked for and where connections may go; `client.py` opens them. Nothing else here does.
"""
