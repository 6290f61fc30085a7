"""Storage of records: the journal, the store behind it, and bodies of calls.

- `journal.py` is written before a call's last byte is sent; `follower.py` applies it to the store.
- `base.py` is the protocol of a store, `sqlite.py` the store in one file.
- `bodies.py` stores bodies of calls in a file of their own.

Nothing here decides what is recorded of a call.
"""
