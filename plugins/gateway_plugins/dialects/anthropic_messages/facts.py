"""Facts of a reply in Anthropic's dialect, whatever envelope brought it.

`message_start` and `message_delta` are cumulative, and some envelopes report some kinds in one place only: kinds are
merged by their maximum, never summed (litellm#34373, agent-framework#7143).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.contract import json_api
from gateway.contract.flag import Event, Facts, Usage
from gateway_plugins.shared.lenient import count, mapping, sequence, text

INVOCATION_METRICS: Final = "amazon-bedrock-invocationMetrics"
"""Member of the last chunk on InvokeModel; also the kind of the event that carries it to the meter."""


_COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    # name of a sum here: where a report has it
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


def _count(report: Any, path: tuple[str, ...]) -> int | None:
    for name in path:
        report = mapping(report).get(name)
    return count(report)


class Counts:
    """The largest count of each kind that any report told."""

    def __init__(self, known: Usage | None = None) -> None:
        """`known` are counts from a reply's headers, where cache writes are one sum."""
        self._counts = dict.fromkeys(_COUNTS, 0)
        if known is not None:
            self._counts |= {"input": known.input, "output": known.output, "cache_read": known.cache_read}
            self._counts["cache_write"] = known.cache_write_5m
        self.told = any(self._counts.values())

    def merge(self, report: Any) -> None:
        """Anthropic's `usage`; anything that is none tells nothing."""
        if isinstance(report, dict):
            self._merge(report, _COUNTS)

    def merge_metrics(self, metrics: Any) -> None:
        """Bedrock's invocation metrics, which tell writes as one sum."""
        if isinstance(metrics, dict):
            self._merge(metrics, _METRICS)

    def usage(self) -> Usage:
        """Writes that no report told apart count as those of five minutes, the default."""
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
        """A report without any token has told nothing: there is no prompt of none."""
        for name, path in paths.items():
            if found := _count(report, path):
                self._counts[name] = max(self._counts[name], found)
                self.told = True


class Meter:
    """Reads the few events that can hold facts. `known` are counts from the reply's headers, as is `tier`."""

    def __init__(self, known: Usage | None = None, tier: str = "") -> None:
        self._facts = Facts(tier=tier)
        self._counts = Counts(known)

    def feed(self, event: Event) -> None:
        if (read := _READERS.get(event.kind)) is not None:
            read(self, event.data)

    def whole(self, body: bytes) -> None:
        data = json_api.decoded(body)
        self._message(data)
        self._facts.stop = text(data.get("stop_reason"))
        for block in sequence(data.get("content")):
            self._block(block)

    def facts(self) -> Facts:
        """What is known so far."""
        self._facts.usage = self._counts.usage()
        self._facts.reported = self._counts.told
        return self._facts

    def _usage(self, report: Any) -> None:
        """Counts, and by which price list they are.

        "fast" is Anthropic's fast mode, "us" inference inside the United States, which costs a tenth more (Anthropic's
        documents, data residency).
        """
        self._counts.merge(report)
        usage = mapping(report)
        if dearer := _DEARER[usage.get("speed") == "fast", usage.get("inference_geo") == "us"]:
            self._facts.tier = dearer
        elif not self._facts.tier or self._facts.tier not in _DEARER.values():
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

    def _start(self, data: Any) -> None:
        self._message(mapping(data).get("message"))

    def _block_start(self, data: Any) -> None:
        self._block(mapping(data).get("content_block"))

    def _delta(self, data: Any) -> None:
        self._stop(data)
        self._facts.stop = text(mapping(mapping(data).get("delta")).get("stop_reason")) or self._facts.stop

    def _stop(self, data: Any) -> None:
        self._usage(mapping(data).get("usage"))

    def _metrics(self, data: Any) -> None:
        self._counts.merge_metrics(data)


_DEARER: Final = {(False, False): "", (True, False): "fast", (False, True): "us", (True, True): "fast-us"}
"""By whether it was fast, and inside the United States."""
_READERS: Final = {
    "message_start": Meter._start,  # noqa: SLF001 (its own table)
    "content_block_start": Meter._block_start,  # noqa: SLF001
    "message_delta": Meter._delta,  # noqa: SLF001
    "message_stop": Meter._stop,  # noqa: SLF001
    INVOCATION_METRICS: Meter._metrics,  # noqa: SLF001
}
