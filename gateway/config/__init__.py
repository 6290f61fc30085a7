"""The configuration: a HuJSON document read into frozen values, or all of its faults at once.

- Import `load`, and the values of `model`.
- `document/` handles the text, `sections/` has one file for each key, and `root` joins them.
- Nothing here serves a call or opens a connection.
"""
