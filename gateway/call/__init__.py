"""One call, from the client's request to its record.

`server.py` alone reads client requests and writes responses. A call passes through `chain.py` and `middleware/`, and
ends in `finish.py`. No file here opens a connection, and none knows a dialect.
"""
