"""Logs, metrics and observers, with which the gateway reports its calls to other programs.

Other packages import `Logger`, `Metrics` and `Observers`. Nothing here may delay calls.
"""
