"""A cache of encoded replies: lists of models, and lists of providers.

- A list depends on the configuration, the caller's access and the parameters of the request. It is kept until the
  configuration is reloaded or the cache is full.
- Making a long list takes up to half a second, so it is made in a thread. Simultaneous requests for the same list share
  the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final

from gateway.call import plugin_threads
from gateway.contract.errors import INTERNAL, GatewayError, Problem

LONG: Final = 256
"""Number of models above which a list is made in a thread. A shorter list takes about 10 milliseconds at most."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""Maximum total size of the cached lists, in bytes. A list of 10,000 models has about 6 MB."""
SECONDS: Final = 30.0
"""Maximum number of seconds that a request waits for a long list."""


class EncodedLists:
    def __init__(self) -> None:
        self._kept: dict[Hashable, bytes] = {}
        """The cached lists. The most recently used list is the last one."""
        self._size = 0
        self._working: dict[Hashable, asyncio.Future[plugin_threads.Outcome]] = {}

    async def get(self, key: Hashable, make: Callable[[], bytes], *, is_long: bool) -> bytes:
        """Return the list with this key. If it is not cached, `make` makes it. Raises the exceptions of `make`.

        `is_long` is true if the list may have more than `LONG` models.
        """
        body = self._kept.pop(key, None)
        if body is None:
            body = await self._made(key, make) if is_long else make()
            if key not in self._kept:  # another request for the same list may have kept it meanwhile
                self._size += len(body)
        self._kept[key] = body
        while self._size > MAX_BYTES:
            oldest = next(iter(self._kept))
            self._size -= len(self._kept.pop(oldest))
        return body

    async def _made(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        working = self._working.get(key)
        if working is None:
            working = self._working[key] = plugin_threads.start("list of models", make, ())
            working.add_done_callback(lambda _: self._working.pop(key))
        try:
            async with asyncio.timeout(SECONDS):
                body, error = await asyncio.shield(working)
        except TimeoutError:
            raise GatewayError(Problem(INTERNAL, f"the list of models was not made in {SECONDS:g} seconds")) from None
        if error is not None:
            raise error
        made: bytes = body
        return made
