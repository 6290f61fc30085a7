"""Providers: their offers (`catalog.py`), connections (`client.py`) and credentials; files that clients name by URL.

Only `client.py` and `fetch/client.py` open connections to the outside. Nothing here knows a dialect.
"""
