"""The store in a PostgreSQL database. It needs the extra `postgres`, which installs asyncpg.

- `address.py` has the server's address; `connection.py` connects, and `thread.py` runs each connection in a thread.
- `schema.py` has the tables. `dialect.py` replaces the words of the shared SQL that PostgreSQL does not accept.
- `writing.py` writes batches, `months.py` makes and drops the partitions of calls.
- `store.py` is the store.
- `bank.py` keeps the balances of quotas that several gateways share. `shared_balances.py` has its statements, and
  `listening.py` receives the notifications of other gateways.
"""
