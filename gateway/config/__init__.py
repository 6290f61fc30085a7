"""The configuration: a HuJSON document that is read into frozen values, or refused with a list of all its faults.

- Other packages import `load` and the types in `model`.
- `document/` handles the text, `sections/` has one file for each key, and `root` joins them.
- Nothing here serves a call or opens a connection.
"""
