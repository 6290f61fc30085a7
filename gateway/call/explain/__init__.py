"""Explanations of why a caller may or may not use a model.

Explanations come from the same functions that decide about access in calls. Other packages import `explain` and
`own_view` from `explain.py`, and the text form from `text.py`.
"""
