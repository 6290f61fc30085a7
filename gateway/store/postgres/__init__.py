"""The store in a PostgreSQL database. It needs the extra `postgres`, which installs asyncpg.

- `address.py` has the server's address; `connection.py` connects, and `thread.py` runs each connection in a thread.
- `schema.py` has the tables, and `dialect.py` what PostgreSQL's SQL has other words for.
- `writing.py` writes batches, `months.py` makes and drops the partitions of calls.
- `store.py` is the store.
"""
