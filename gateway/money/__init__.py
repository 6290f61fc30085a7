"""Prices and quotas, as pure computations.

`prices/` has the prices of tokens, and `quotas/` has the buckets whose balances limit callers. The only I/O of this
package is the reading of the built-in price files. No module here depends on a plugin, a grant or a call.
"""
