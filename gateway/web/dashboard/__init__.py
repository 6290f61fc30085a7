"""The pages for people, rendered on the server.

`pages.py` has the routes, `views.py` the values that templates show. A page shows what the API shows, never more.
"""
