"""Who is calling (`identity/`) and what they may do (`grants.py`).

Import `Grants` from `grants.py` and `Identity` from `identity/caller.py`. Nothing here reads a body, knows a
provider's address or decides how a refusal is worded.
"""
