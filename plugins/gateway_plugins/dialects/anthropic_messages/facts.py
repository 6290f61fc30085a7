"""Token counts, stop reason, tier, model and called tools of a reply in Anthropic's dialect, from any provider.

- The counts in `message_start` and `message_delta` are cumulative, and some providers report some counts in only
  one of these events. So the largest count of each kind is taken. Counts are never added
  (litellm#34373, agent-framework#7143).
- A member of a wrong type is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.contract import json_api
from gateway.contract.flag import Event, Facts, Usage
from gateway_plugins.shared.lenient import count, mapping, sequence, text

INVOCATION_METRICS: Final = "amazon-bedrock-invocationMetrics"
"""Name of the member with the counts in InvokeModel's last chunk.

The event that passes these counts to the meter has this name as its kind."""

_COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    # kind of tokens: path of its count in Anthropic's usage
    "input": ("input_tokens",),
    "output": ("output_tokens",),
    "cache_read": ("cache_read_input_tokens",),
    "cache_write": ("cache_creation_input_tokens",),
    "cache_write_5m": ("cache_creation", "ephemeral_5m_input_tokens"),
    "cache_write_1h": ("cache_creation", "ephemeral_1h_input_tokens"),
    "reasoning": ("output_tokens_details", "thinking_tokens"),
}
_METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("inputTokenCount",),
    "output": ("outputTokenCount",),
    "cache_read": ("cacheReadInputTokenCount",),
    "cache_write": ("cacheWriteInputTokenCount",),
}
_SURCHARGED: Final = {(True, False): "fast", (False, True): "us", (True, True): "fast-us"}
"""Tiers with a surcharge, by (fast mode, inside the United States)."""


def _count(report: Any, path: tuple[str, ...]) -> int | None:
    for name in path:
        report = mapping(report).get(name)
    return count(report)


class Counts:
    """The largest count of each kind of tokens in all reports of one reply."""

    def __init__(self, known: Usage | None = None) -> None:
        """Begin with the counts of a reply's headers. `known.cache_write_5m` is the sum of all cache writes."""
        self._counts = dict.fromkeys(_COUNTS, 0)
        if known is not None:
            self._counts |= {"input": known.input, "output": known.output, "cache_read": known.cache_read}
            self._counts["cache_write"] = known.cache_write_5m
        self.reported = any(self._counts.values())

    def merge(self, report: Any) -> None:
        """Merge a `usage` object in Anthropic's form. Ignore any value that is no object."""
        if isinstance(report, dict):
            self._merge(report, _COUNTS)

    def merge_metrics(self, metrics: Any) -> None:
        """Merge Bedrock's invocation metrics, which have one sum of all cache writes. Ignore any other value."""
        if isinstance(metrics, dict):
            self._merge(metrics, _METRICS)

    def usage(self) -> Usage:
        """Return the counts. Cache writes of unknown lifetime are counted as five-minute writes, the default."""
        counts = self._counts
        hour = counts["cache_write_1h"]
        return Usage(
            input=counts["input"],
            output=counts["output"],
            cache_read=counts["cache_read"],
            cache_write_5m=max(counts["cache_write"] - hour, counts["cache_write_5m"]),
            cache_write_1h=hour,
            reasoning=counts["reasoning"],
        )

    def _merge(self, report: Any, paths: Mapping[str, tuple[str, ...]]) -> None:
        """Merge the counts in a report. A report that has only zeros is ignored, because no prompt has 0 tokens."""
        for name, path in paths.items():
            if tokens := _count(report, path):
                self._counts[name] = max(self._counts[name], tokens)
                self.reported = True


class Meter:
    """Reads facts from the events of a reply. `known` and `tier` come from the reply's headers."""

    def __init__(self, known: Usage | None = None, tier: str = "") -> None:
        self._facts = Facts(tier=tier)
        self._counts = Counts(known)

    def feed(self, event: Event) -> None:
        match event.kind:
            case "message_start":
                self._message(mapping(event.data).get("message"))
            case "content_block_start":
                self._block(mapping(event.data).get("content_block"))
            case "message_delta":
                data = mapping(event.data)
                self._usage(data.get("usage"))
                self._facts.stop = text(mapping(data.get("delta")).get("stop_reason")) or self._facts.stop
            case "message_stop":
                self._usage(mapping(event.data).get("usage"))
            case _ if event.kind == INVOCATION_METRICS:
                self._counts.merge_metrics(event.data)

    def whole(self, body: bytes) -> None:
        data = json_api.json_object(body)
        self._message(data)
        self._facts.stop = text(data.get("stop_reason"))
        for block in sequence(data.get("content")):
            self._block(block)

    def facts(self) -> Facts:
        """Return the facts so far."""
        self._facts.usage = self._counts.usage()
        self._facts.reported = self._counts.reported
        return self._facts

    def _usage(self, report: Any) -> None:
        """Merge the counts. Store the number of web searches, and the tier that determines the prices.

        "fast" is Anthropic's fast mode. "us" is inference inside the United States, which costs 10 % more (Anthropic's
        documentation, data residency).
        """
        self._counts.merge(report)
        usage = mapping(report)
        if surcharged := _SURCHARGED.get((usage.get("speed") == "fast", usage.get("inference_geo") == "us")):
            self._facts.tier = surcharged
        elif self._facts.tier not in _SURCHARGED.values():
            self._facts.tier = text(usage.get("service_tier")) or self._facts.tier
        searches = count(mapping(usage.get("server_tool_use")).get("web_search_requests")) or 0
        if searches > self._facts.extra.get("web_search", 0):
            self._facts.extra["web_search"] = searches

    def _message(self, message: Any) -> None:
        self._usage(mapping(message).get("usage"))
        self._facts.model = text(mapping(message).get("model"))

    def _block(self, block: Any) -> None:
        if mapping(block).get("type") == "tool_use":
            self._facts.tools.append(text(block.get("name")))
