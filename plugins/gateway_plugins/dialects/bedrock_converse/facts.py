"""Facts of a reply in Converse's dialect: its usage in the gateway's vocabulary.

Source: botocore's service model (TokenUsage, CacheDetail). The events that carry usage are known to the flag's meter
and to the reader.
"""

from __future__ import annotations

from typing import Any

from gateway.contract.flag import Usage
from gateway_plugins.shared import lenient


def usage_of(reported: dict[str, Any]) -> Usage:
    """Return the usage: `inputTokens` excludes cache tokens, and `cacheDetails` splits cache writes by ttl.

    Some replies end the names of the cache's counts with "Count", and some have details of writes without their sum.
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
    """Return whether usage has a number of tokens, even 0."""
    return any(lenient.count(reported.get(name)) is not None for name in ("inputTokens", "outputTokens"))


def tier_of(data: dict[str, Any]) -> str:
    """Return "optimized" if latency was paid for, else the service tier or ""; from `metadata` or a whole reply."""
    latency = lenient.text(lenient.mapping(data.get("performanceConfig")).get("latency"))
    if latency == "optimized":
        return latency
    return lenient.text(lenient.mapping(data.get("serviceTier")).get("type"))
