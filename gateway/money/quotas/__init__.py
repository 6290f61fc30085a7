"""Quotas and rate limits as buckets. A call reserves an amount before it is sent, and is charged when it has ended.

- `definitions.py`: quotas and rate limits as the configuration defines them, and the names of their buckets.
- `buckets.py`: the arithmetic of one bucket. `windows.py`: calendar windows. `clock.py`: the time of the process.
- `ledger.py`: all buckets of one kind. `bucket_chains.py`: chains of buckets, where the next bucket pays what the one
  before cannot.
- `leases.py`: how several gateways share buckets. Each spends a part (slice) of a bucket's balance. `slices.py`: the
  slices of one gateway.
- `estimate.py`: an estimate of the maximum number of tokens of a call. `contents.py`: images, files and tools in a
  body.
- `book.py`: all buckets of the gateway's process. `settlements.py`: what a call is charged. `transfer.py`: the form in
  which a process hands the state of its buckets to the process that replaces it.

`gateway.access.grants` decides which quotas apply to a caller. `gateway.call.settlement` reserves and charges the
amounts of each call. No module here does I/O.
"""
