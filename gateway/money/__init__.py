"""Prices and quotas: values in, values out.

Import from `prices/` what tokens cost, from `quotas/` what buckets hold. Nothing here does I/O while calls are made,
and nothing knows a dialect or a call.
"""
