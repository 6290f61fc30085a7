"""Identities of callers, and the modes by which a listener identifies its callers.

Other packages import `Identity` from `caller.py` and use the modes through `modes.py`. What a caller may use is
decided in `gateway/access/grants.py`, never here.
"""
