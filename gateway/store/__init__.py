"""Storage of records of calls: the journal, the store that is filled from the journal, and bodies of calls.

- `journal.py` writes the journal before the last byte of a reply is sent; `follower.py` applies the journal to the
  store.
- `base.py` is the protocol of a store. `sqlite.py` is the store in one SQLite file, and `postgres/` the store in a
  PostgreSQL database. Both share their SQL (`sql.py`).
- `bodies.py` stores the bodies of calls in a separate file.

This package does not decide what is recorded of a call.
"""
