"""The lifetime of cache entries, read from a request's marks (Anthropic's `cache_control`, Converse's `cachePoint`).

A cache entry of an hour costs more than one of five minutes, but some providers report only the sum of cache writes.
Then the marks in the request tell the lifetime. Source: Anthropic's documentation (prompt caching), botocore
(CachePointBlock).
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final

from gateway.contract.flag import ClientRequest

FIVE_MINUTES: Final = "5m"
"""The lifetime of a cache entry whose mark names no lifetime."""
HOUR: Final = "1h"
MIXED: Final = "mixed"
"""The result for a request with marks of both lifetimes."""

_MARK: Final = re.compile(rb'"(?:cache_control|cachePoint)"\s*:\s*\{([^{}]*)\}')
_HOUR: Final = re.compile(rb'"ttl"\s*:\s*"1h"')


class Marks:
    """The cache marks of a request. The body is searched for them at the first use, and only once."""

    def __init__(self, request: ClientRequest | None = None) -> None:
        self._body = b"" if request is None else request.top.body

    @cached_property
    def lifetime(self) -> str:
        """The lifetime in the marks.

        It is `MIXED` if they have different lifetimes, and `FIVE_MINUTES` if there are no marks.
        """
        hours = {bool(_HOUR.search(mark[1])) for mark in _MARK.finditer(self._body)}
        if hours == {True, False}:
            return MIXED
        return HOUR if hours == {True} else FIVE_MINUTES
