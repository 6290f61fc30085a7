"""Errors of aiohttp about malformed requests, in the gateway's own log and without the request.

Its error log prints a traceback with the offending line, which may be the one with the client's credential.
"""

from __future__ import annotations

import logging

from gateway.telemetry.log import Logger


class _Handler(logging.Handler):
    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        self._log.warning("http.error", kind=kind.__name__ if kind else record.levelname)


def server_logger(log: Logger) -> logging.Logger:
    """Return a logger for aiohttp's server, outside of the hierarchy: none of its lines reaches standard error."""
    logger = logging.Logger("irisgate.http", logging.WARNING)  # noqa: LOG001 (kept apart on purpose)
    logger.addHandler(_Handler(log))
    return logger
