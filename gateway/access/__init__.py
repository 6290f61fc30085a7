"""Identities of callers (`identity/`) and their access (`grants.py`).

Other packages import `Grants` and `Access` from `grants.py`, and `Identity` from `identity/caller.py`. Nothing here
reads a request's body, uses the address of a provider, or writes the message for a refused model.
"""
