"""The handling of one call to a model: from the client's request to the record of the call.

`call_routes.py` gets the requests of calls. Only `server.py` reads them and makes their responses. A call passes
through a chain (`chain.py`) of the steps in `middleware/`, and ends in `finish.py`. No file here opens a connection,
and no file here depends on a particular dialect (API format).
"""
