"""Facts of a reply in Converse's dialect: its usage in the gateway's vocabulary.

Source: botocore's service model (TokenUsage, CacheDetail). Which events carry it is known to the flag's meter and to
the translators.
"""

from __future__ import annotations

from typing import Any

from gateway.contract.flag import Usage
from gateway_plugins.shared import lenient


def usage_of(reported: dict[str, Any]) -> Usage:
    """`inputTokens` holds no cache tokens; `cacheDetails` tells writes apart by their ttl.

    Some replies name the counts of the cache with "Count" at the end, and the sum of writes may be missing beside its
    details.
    """

    def count(*names: str) -> int:
        return next(filter(None, (lenient.count(reported.get(name)) for name in names)), 0)

    written = count("cacheWriteInputTokens", "cacheWriteInputTokenCount")
    details = [lenient.mapping(detail) for detail in lenient.sequence(reported.get("cacheDetails"))]

    def kept(ttl: str) -> int:
        return sum(lenient.count(detail.get("inputTokens")) or 0 for detail in details if detail.get("ttl") == ttl)

    hour = kept("1h")
    return Usage(
        input=count("inputTokens"),
        output=count("outputTokens"),
        cache_read=count("cacheReadInputTokens", "cacheReadInputTokenCount"),
        cache_write_5m=max(written - hour, kept("5m")),
        cache_write_1h=hour,
    )


def has_tokens(reported: dict[str, Any]) -> bool:
    """Whether usage has a number of tokens at all."""
    return any(lenient.count(reported.get(name)) is not None for name in ("inputTokens", "outputTokens"))


def tier_of(data: dict[str, Any]) -> str:
    """Of `metadata` or a whole reply: the service tier, or "optimized" where latency was paid for; "" if neither."""
    latency = lenient.text(lenient.mapping(data.get("performanceConfig")).get("latency"))
    if latency == "optimized":
        return latency
    return lenient.text(lenient.mapping(data.get("serviceTier")).get("type"))
