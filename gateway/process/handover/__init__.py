"""The hand-over from a running gateway to a new process. No call is refused or lost meanwhile.

- `wire.py`: the messages between the two processes, on a unix socket in the state folder.
- `giving.py`: the side of the running gateway. `taking.py`: the side of the new process.

`gateway.call.spools` reads the records that the replaced process still writes. `gateway.call.keeper` reserves quota
amounts for the calls of that process.
"""
