"""Providers: which offers what (`catalog.py`), connections to them (`client.py`), credentials, and files by URL.

`client.py` and `fetch/client.py` alone open connections to the outside. Nothing here knows a dialect.
"""
