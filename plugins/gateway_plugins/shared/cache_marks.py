"""The lifetime of cache entries, read from the cache marks of a request.

A cache mark is Anthropic's `cache_control` or Converse's `cachePoint`. An entry for an hour costs more than an entry
for five minutes. But some providers report only the sum of all cache writes. In this case, the lifetime is read from
the marks. Source: Anthropic's documentation (prompt caching), botocore (CachePointBlock).
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final

from gateway.contract.flag import ClientRequest

FIVE_MINUTES: Final = "5m"
"""The lifetime of a cache entry if its cache mark names no lifetime."""
HOUR: Final = "1h"
MIXED: Final = "mixed"
"""Value of `Marks.lifetime` for a request with cache marks for five minutes and cache marks for an hour."""

_MARK: Final = re.compile(rb'"(?:cache_control|cachePoint)"\s*:\s*\{([^{}]*)\}')
_HOUR: Final = re.compile(rb'"ttl"\s*:\s*"1h"')


class Marks:
    """The cache marks of a request: `cache_control` and `cachePoint`. The body is searched for them only once, when
    needed.
    """

    def __init__(self, request: ClientRequest | None = None) -> None:
        self._body = b"" if request is None else request.top.body

    @cached_property
    def lifetime(self) -> str:
        """The lifetime in the cache marks of the request.

        It is `MIXED` if the marks have different lifetimes, and `FIVE_MINUTES` if the request has no marks.
        """
        hours = {bool(_HOUR.search(mark[1])) for mark in _MARK.finditer(self._body)}
        if hours == {True, False}:
            return MIXED
        return HOUR if hours == {True} else FIVE_MINUTES
