"""Writes aiohttp's errors about malformed requests to the gateway's log, without any text of the request.

aiohttp itself would log the malformed line, which may contain the client's credential.
"""

from __future__ import annotations

import logging

from gateway.telemetry.log import Logger
from gateway.telemetry.throttle import Throttle


class _Handler(logging.Handler):
    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log
        self._throttle = Throttle()

    def emit(self, record: logging.LogRecord) -> None:
        failure = record.exc_info[0] if record.exc_info else None
        kind = failure.__name__ if failure else record.levelname
        if count := self._throttle.due(kind):
            self._log.warning("http.error", kind=kind, count=count)


def server_logger(log: Logger) -> logging.Logger:
    """Return a logger for aiohttp's server that writes only to `log`. It has no parent logger."""
    logger = logging.Logger("irisgate.http", logging.WARNING)  # noqa: LOG001 (kept apart on purpose)
    logger.addHandler(_Handler(log))
    return logger
