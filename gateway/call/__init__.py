"""The handling of one call to a model: from the client's request to the record of the call.

Only `server.py` reads the client's requests and writes responses. A call passes through a chain (`chain.py`) of the
steps in `middleware/`, and ends in `finish.py`. No file here opens a connection, and no file here depends on a
particular dialect (API format).
"""
