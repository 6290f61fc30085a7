"""The configuration: a HuJSON document read into frozen values, or refused with all of its faults at once.

- Other packages import `load`, and the types of `model`.
- `document/` handles the text, `sections/` has one file for each key, and `root` joins them.
- Nothing here serves a call or opens a connection.
"""
