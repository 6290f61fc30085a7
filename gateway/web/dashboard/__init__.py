"""The HTML pages, rendered on the server.

`pages.py` has the routes. `views.py` has the values that templates show. A page shows no data that the API hides.
"""
