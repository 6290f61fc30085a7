"""The life of the process: wiring (`app.py`), listening, draining, reload, and the demo.

Only the command line imports from here. What a call or a page does belongs to the rooms below.
"""
