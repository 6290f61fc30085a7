"""Identities of callers (`identity/`) and their access (`grants.py`).

Other packages import `Grants` and `Access` from `grants.py`, and `Identity` from `identity/caller.py`. Nothing here
reads a request's body, knows the address of a provider, or writes the message with which a model is refused.
"""
