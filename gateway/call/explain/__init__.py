"""Explanations why a caller may, or may not, use a model.

Import `explain` and `own_view` from `explain.py`, and the text form from `text.py`. Whether access is allowed is asked
of the same functions that are used for calls.
"""
