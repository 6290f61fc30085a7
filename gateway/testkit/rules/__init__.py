"""What the real providers refuse, one file for each dialect.

A rule takes a request's body and names what is wrong with it. It never repairs a request.
"""
