"""Prices and quotas, as pure computations.

`prices/` has the prices of tokens, and `quotas/` has the buckets whose balances limit callers. The only I/O of this
package is the reading of the built-in price table. No module here knows a dialect, a grant or a call.
"""
