"""Logs, metrics and observers: what leaves the gateway about its calls.

Import `Logger`, `Metrics` and `Observers`. Nothing here decides what is kept, and nothing here may delay a call.
"""
