"""The configuration: a HuJSON document (JSON with comments) that is read into immutable values, or refused with a list
of all its faults.

- Other packages import `load` and the types in `model`.
- `document/` handles the text. `sections/` has one file for each top-level key, and `root` joins these sections.
- Nothing here serves a call or opens a connection.
"""
