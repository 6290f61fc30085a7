"""Why somebody may, or may not, use a model.

Import `explain` and `own_view` from `explain.py`, and the text form from `text.py`. Every decision is taken by the
functions that decide about calls; nothing is decided here a second time.
"""
