"""Identities of callers (`identity/`) and their access (`grants.py`).

Import `Grants` and `Access` from `grants.py` and `Identity` from `identity/caller.py`. Nothing here reads a body, knows
a provider's address or words a refusal of a model.
"""
