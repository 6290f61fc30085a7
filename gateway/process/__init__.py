"""The gateway as a process: building the application, listening, shutdown, reload of the configuration, and the demo.

Only the command line imports this package. The application handles calls in `gateway/call` and pages in `gateway/web`.
"""
