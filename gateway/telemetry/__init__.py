"""Logs, metrics and observers: the gateway's reports about its calls to other programs.

Import `Logger`, `Metrics` and `Observers`. This package does not decide how long data are kept, and it must not delay
calls.
"""
