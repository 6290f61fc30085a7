"""Quotas and rate limits: a call reserves before it is sent, and is charged when it is over.

- `definitions.py`: quotas and rate limits as the configuration defines them, and the names of their buckets.
- `ledger.py`: the arithmetic of buckets.
- `estimate.py`: the tokens that a call may use at most.
- `book.py`: the buckets of a process.

Grants are in `gateway.access.grants`, calls in `gateway.call.settlement`; nothing here does I/O or knows a dialect.
"""
