"""Identities of callers (`identity/`) and their access to models (`grants.py`).

Other packages import `Grants` and `Access` from `grants.py`, and `Identity` from `identity/caller.py`.
"""
