"""The middlewares of a call's chain, one file each. `gateway/process/app.py` defines their order.

No middleware reads from a client or writes to a client.
"""
