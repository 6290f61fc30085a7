"""Logs, metrics and observers: the gateway's reports about its calls to other programs.

Other packages import `Logger`, `Metrics` and `Observers`. This package does not decide how long data are kept, and it
must not delay calls.
"""
