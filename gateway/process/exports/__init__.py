"""Exports of records of calls to files or to S3, each call exactly once.

- `values.py` has the form of an exported record; `formats.py` and `cbor.py` encode the records of an object.
- `folder.py` and `s3.py` have the destinations, and `targets.py` creates them.
- `export.py` copies the calls of a store to a destination, and keeps the position in the store (`store/exports.py`).
- `task.py` exports while the gateway serves. `command.py` is the command `irisgate export`.
"""
