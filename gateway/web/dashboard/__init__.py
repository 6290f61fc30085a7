"""The HTML pages, rendered on the server.

`pages.py` has the routes, `views.py` the values that templates show. A page never shows more than the API.
"""
