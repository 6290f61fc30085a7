"""The middlewares of the chain, one file each; `gateway/process/app.py` puts them in order.

None of them reads from a client or writes to one.
"""
