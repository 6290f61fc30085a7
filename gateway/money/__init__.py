"""Prices and quotas: values in, values out.

Prices of tokens are in `prices/`, balances of buckets in `quotas/`. Nothing here does I/O while calls are made, and
nothing knows a dialect, a grant or a call.
"""
