"""The hand-over of a running gateway to a new process: no call is refused, and none is lost.

- `wire.py`: the messages between the two processes, on a unix socket in the state folder.
- `giving.py`: the side of the running gateway. `taking.py`: the side of the new process.

`gateway.call.predecessor` reads what the replaced process still records; `gateway.call.keeper` reserves for its calls.
"""
