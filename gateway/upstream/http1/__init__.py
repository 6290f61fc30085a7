"""An HTTP/1.1 client for calls to providers: addresses, connections, and one exchange at a time on a connection.

`gateway/upstream/client.py` sends calls with it. Files that clients name are fetched by another client
(`upstream/fetch`).
"""
