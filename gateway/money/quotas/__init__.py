"""Quotas and rate limits: reserve before a call is made, settle when it is over.

`ledger.py` is the arithmetic of buckets, `estimate.py` what a call may cost at most, `book.py` which buckets a call is
charged to. Who is granted what is decided in `gateway.access.grants`; nothing here does I/O or knows a dialect.
"""
