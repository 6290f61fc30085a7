"""Rules that find requests which the real providers would refuse, one file for each dialect.

A rule takes the body of a request and yields its faults. It never changes the body.
"""
