"""Identities of callers, and the modes by which a listener identifies its callers.

Other packages import `Identity` from `caller.py`, and the modes from `modes.py`. `gateway/access/grants.py` decides
which models a caller may use.
"""
