"""HTTP/2 for the connections of clients, with the library `h2`. `web/connections.py` speaks HTTP/1.1.

Each stream of a connection becomes a connection of HTTP/1.1 in memory. So the rest of the gateway knows only HTTP/1.1.
`web/connections.py` imports this package when the first client speaks HTTP/2.
"""
