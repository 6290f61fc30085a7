"""The hand-over: a running gateway is replaced by a new process. No call is refused or lost meanwhile.

- `wire.py`: the messages between the two processes, on a unix socket in the state folder.
- `giving.py`: the side of the running gateway.
- `taking.py`: the side of the new process.

After the hand-over, the replaced process ends its calls. The new process reads the records of these calls
(`gateway.call.spools`), and reserves quota amounts for them (`gateway.call.keeper`).
"""
