"""The life of the process: wiring (`app.py`), listening, draining, reload, and the demo.

Only the command line imports from here. Calls and pages are served by the rooms below.
"""
