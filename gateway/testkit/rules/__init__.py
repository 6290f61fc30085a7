"""Rules for the requests that the real providers refuse, one file for each dialect.

A rule takes the body of a request and yields what is wrong with the body. It never changes the body.
"""
