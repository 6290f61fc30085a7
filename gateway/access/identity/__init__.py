"""Identities of callers, and the modes by which a listener identifies its callers.

Other packages import `Identity` from `caller.py` and use the modes through `modes.py`. This package does not decide
what a caller may use; `gateway/access/grants.py` does.
"""
