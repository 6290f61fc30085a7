"""The downloads of one call. Each URL is downloaded once, and the number and total size of the files are limited.

A file is used again if a later attempt needs it, or if the conversation contains its URL twice. `client.py` does the
download.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from gateway.config.model import Config
from gateway.contract.errors import Refused, invalid
from gateway.contract.flag import Fetch, StepResponse
from gateway.telemetry.log import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.fetch.client import Allowance, Fetcher
from gateway.upstream.fetch.guard import host_of

MAX_FILES: Final = 20
"""Maximum number of files of one call. Bedrock's limit for images in a request is the same.

Source: AWS's API reference of Converse, ContentBlock."""
MAX_FETCHES_PER_CALL: Final = 5
"""Maximum number of concurrent downloads of one call, so that a few calls with slow hosts do not block all other calls.

`client.MAX_FETCHES` limits the concurrent downloads of all calls."""
_BASE64: Final = (3, 4)
"""Ratio of the size of a file to the size of its base64 form."""


class Fetches:
    """The files that one call downloads. `close` must be called at the end of the call."""

    def __init__(self, fetcher: Fetcher, config: Config, metrics: Metrics, log: Logger) -> None:
        self._fetcher = fetcher
        self._rules = config.server.fetch
        self._metrics = metrics
        self._log = log
        self._is_private = config.bodies.are_forgotten
        room, characters = _BASE64
        self._allowance = Allowance(config.server.limits.body_bytes * room // characters)
        self._turns = asyncio.Semaphore(MAX_FETCHES_PER_CALL)
        self._tasks: dict[str, asyncio.Task[StepResponse]] = {}

    async def get(self, fetch: Fetch, request_id: str) -> StepResponse:
        """Return a file. The files in `fetch.ahead` will be needed next, so their downloads are started too.

        Raises `Refused` if the file cannot be downloaded, or if the call has more than `MAX_FILES` different URLs.
        """
        for each in (fetch, *fetch.ahead):
            if each.url in self._tasks:
                continue
            if len(self._tasks) >= MAX_FILES:
                field = f"{each.param}: " if each.param else ""
                raise invalid(f"{field}at most {MAX_FILES} different URLs are fetched for one request", each.param)
            self._tasks[each.url] = asyncio.create_task(self._in_turn(each, request_id))
        # if the client disconnects, only this wait is cancelled; `close` cancels the fetch at the end of the call
        return await asyncio.shield(self._tasks[fetch.url])

    async def close(self) -> None:
        """Cancel all unfinished downloads, and wait until they have ended."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _in_turn(self, fetch: Fetch, request_id: str) -> StepResponse:
        async with self._turns:
            return await self._read(fetch, request_id)

    async def _read(self, fetch: Fetch, request_id: str) -> StepResponse:
        begun = monotonic()
        fields: dict[str, object] = {"host": host_of(fetch.url), "request_id": request_id}
        try:
            reply = await self._fetcher.fetch(fetch, self._rules, self._allowance)
        except Refused as error:
            self._metrics.fetched("refused")
            # the message has the URL, which is a part of the request
            reason = {} if self._is_private else {"reason": error.problem.message}
            self._log.info("fetch.refused", duration_ms=_since(begun), **reason, **fields)
            raise
        self._metrics.fetched("ok")
        self._log.info("fetch.finished", duration_ms=_since(begun), bytes=len(reply.body), **fields)
        return reply


def _since(begun: float) -> int:
    return round((monotonic() - begun) * 1000)
