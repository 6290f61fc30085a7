"""Identities of callers (`identity/`) and their access (`grants.py`).

Other packages import `Grants` and `Access` from `grants.py`, and `Identity` from `identity/caller.py`. Nothing here
reads bodies, calls providers, or writes the error message for a refused model.
"""
