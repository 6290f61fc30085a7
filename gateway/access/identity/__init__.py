"""Identities of callers: one file for each mode in which a listener identifies them.

Import `Identity` from `caller.py` and the modes through `modes.py`. Access is decided in `gateway/access/grants.py`,
never here.
"""
