"""One call, from the client's request to its record.

The way begins in `server.py`, which alone reads client requests and writes responses, and leads through `chain.py` and
`middleware/` to `finish.py`. No file here opens a connection, and none knows a dialect.
"""
