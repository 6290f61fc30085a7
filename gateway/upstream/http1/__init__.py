"""An HTTP/1.1 client for calls to providers. A connection has one exchange (a request and its reply) at a time.

`gateway/upstream/client.py` sends calls with it. Another client downloads files that clients name (`upstream/fetch`).
"""
