"""Identities of callers, and the modes by which a listener identifies its callers.

Other packages import `Identity` from `caller.py` and use the modes through `modes.py`. `gateway/access/grants.py`
decides what a caller may use; nothing in this package decides it.
"""
