"""Readers of usage, service tier and model in a Converse reply.

Sources: botocore's service model (TokenUsage, CacheDetail, PromptRouterTrace) and recorded traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.contract.flag import Part
from gateway_plugins.shared import lenient
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.usage_counts import Counts

_COUNTS: Final[Mapping[str, str]] = {
    # field of `usage`: name of the count. In some replies the names of the cache counts end with "Count"
    "inputTokens": "input",
    "outputTokens": "output",
    "cacheReadInputTokens": "cache_read",
    "cacheReadInputTokenCount": "cache_read",
    "cacheWriteInputTokens": "cache_write",
    "cacheWriteInputTokenCount": "cache_write",
}


class Reports:
    """The usage of one reply, from `metadata` events or an unstreamed reply. Normally a reply has one report."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._tier = self._model = ""
        self.reported = False
        """True if a report has a count of input or output tokens, even if the count is 0.

        Bedrock reports 0 if a guardrail blocked the prompt.
        """

    def add(self, data: Mapping[str, Any]) -> None:
        """Add a report. `data` is the event `metadata` of a stream, or an unstreamed reply."""
        counts = _counts(lenient.mapping(data.get("usage")))
        self._counts.add(counts)
        self.reported = self.reported or "input" in counts or "output" in counts
        self._tier = tier_of(data) or self._tier
        router = lenient.mapping(lenient.mapping(data.get("trace")).get("promptRouter"))
        self._model = lenient.text(router.get("invokedModelId")) or self._model

    @property
    def tier(self) -> str:
        return self._tier

    def part(self, marks: Marks) -> Part:
        """Return the usage of the reply. If a prompt router chose the model, the result also names this model.

        `marks` are the cache points of the request. If the reply does not tell the lifetime of written cache entries,
        the lifetime is read from them.
        """
        return Part(usage=self._counts.usage(marks), model=self._model, tier=self._tier)

    def is_exact(self, marks: Marks) -> bool:
        return self._counts.is_exact(marks)


def _counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of a `usage` object, by the names in `shared/usage_counts.py`.

    If a count is in several fields, the first number above 0 is used.
    """
    counts: dict[str, int] = {}
    for member, name in _COUNTS.items():
        if member in usage and (number := lenient.count(usage[member])) is not None:
            counts[name] = counts.get(name) or number
    details = [lenient.mapping(detail) for detail in lenient.sequence(usage.get("cacheDetails"))]
    if details:
        for ttl in ("5m", "1h"):
            numbers = (lenient.count(detail.get("inputTokens")) for detail in details if detail.get("ttl") == ttl)
            counts[f"cache_write_{ttl}"] = sum(filter(None, numbers))
    return counts


def tier_of(data: Mapping[str, Any]) -> str:
    """Return the tier that decides the price: "optimized" for optimized latency, or else the service tier.

    `data` is the event `metadata` of a stream, or an unstreamed reply. Return "" if `data` reports neither optimized
    latency nor a service tier.
    """
    latency = lenient.text(lenient.mapping(data.get("performanceConfig")).get("latency"))
    if latency == "optimized":
        return latency
    return lenient.text(lenient.mapping(data.get("serviceTier")).get("type"))
