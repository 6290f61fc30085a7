"""Prices and quotas, as pure computations.

`prices/` has the prices of tokens, and `quotas/` has the buckets whose balances limit callers. No module here depends
on a plugin, a grant or a call. The only I/O is reading the built-in price files.
"""
