"""Readers of usage and service tier in a Converse reply.

Source: botocore's service model (TokenUsage, CacheDetail). The caller knows which
events have usage, so these readers do not check the kind of an event.
"""

from __future__ import annotations

from typing import Any

from gateway.contract.flag import Usage
from gateway_plugins.shared import lenient


def usage_of(reported: dict[str, Any]) -> Usage:
    """Return the counts of Converse's `usage` as `Usage`.

    `inputTokens` excludes cache tokens, and `cacheDetails` has the cache writes of each ttl. In some replies the names
    of the cache counts end with "Count", and some replies have `cacheDetails` without the sum of the writes.
    """

    def count(*names: str) -> int:
        return next(filter(None, (lenient.count(reported.get(name)) for name in names)), 0)

    written = count("cacheWriteInputTokens", "cacheWriteInputTokenCount")
    details = [lenient.mapping(detail) for detail in lenient.sequence(reported.get("cacheDetails"))]

    def writes(ttl: str) -> int:
        return sum(lenient.count(detail.get("inputTokens")) or 0 for detail in details if detail.get("ttl") == ttl)

    hour = writes("1h")
    return Usage(
        input=count("inputTokens"),
        output=count("outputTokens"),
        cache_read=count("cacheReadInputTokens", "cacheReadInputTokenCount"),
        cache_write_5m=max(written - hour, writes("5m")),
        cache_write_1h=hour,
    )


def has_tokens(reported: dict[str, Any]) -> bool:
    """Return whether `usage` has a count of input or output tokens, even if it is 0."""
    return any(lenient.count(reported.get(name)) is not None for name in ("inputTokens", "outputTokens"))


def tier_of(data: dict[str, Any]) -> str:
    """Return "optimized" if the reply had optimized latency, which has its own price; else the service tier, or "".

    `data` is the event `metadata` or a whole reply.
    """
    latency = lenient.text(lenient.mapping(data.get("performanceConfig")).get("latency"))
    if latency == "optimized":
        return latency
    return lenient.text(lenient.mapping(data.get("serviceTier")).get("type"))
