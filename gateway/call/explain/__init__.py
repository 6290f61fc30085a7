"""Explanations of why a caller may or may not use a model, or send a direct request.

Explanations come from the same functions that decide about access in calls. `explain.py` explains the use of a model,
and `text.py` writes this explanation as text. `direct.py` explains direct requests, also as text.
"""
