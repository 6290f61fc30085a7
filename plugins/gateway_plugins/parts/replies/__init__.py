"""The way back: reading a provider's reply (`walk_`), and writing it for the client (`emit_`), by `verbs.py`."""
