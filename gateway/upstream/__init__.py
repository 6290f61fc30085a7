"""Providers' models, credentials and connections, and the download of files that clients name by URL.

`catalog.py` has the models that providers offer, `client.py` the connections, and `credentials/` the keys. Only
`client.py` and `fetch/client.py` open connections to other hosts.
"""
