"""Who is calling: one file for each mode in which a listener learns its callers.

Import `Identity` from `caller.py` and the modes through `modes.py`. What an identity may do is decided in
`gateway/access/grants.py`, never here.
"""
