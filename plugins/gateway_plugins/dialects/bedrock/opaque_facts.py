"""Token counts of InvokeModel replies with opaque bodies.

Counts come from the reply's headers, from usage members that some model families put into their bodies, and from the
metrics in the last chunk of a stream. Of several counts of one kind the largest is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.contract import json_api, lenient_json
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Event, Facts, Headers, Usage
from gateway.contract.provider_errors import is_error
from gateway_plugins.dialects.anthropic_messages.facts import INVOCATION_METRICS
from gateway_plugins.shared.lenient import MAX_COUNT, mapping, text

_HEADERS: Final[Mapping[str, str]] = {
    "input": "x-amzn-bedrock-input-token-count",
    "output": "x-amzn-bedrock-output-token-count",
    "cache_read": "x-amzn-bedrock-cache-read-input-token-count",
    "cache_write_5m": "x-amzn-bedrock-cache-write-input-token-count",
}
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    # kind of tokens: names of the count in usage objects (Nova, OpenAI-like), bodies (Llama, DeepSeek, Titan), metrics
    "input": ("inputTokens", "inputTokenCount", "prompt_tokens", "prompt_token_count", "inputTextTokenCount"),
    "output": ("outputTokens", "outputTokenCount", "completion_tokens", "generation_token_count"),
    "cache_read": ("cacheReadInputTokenCount", "cacheReadInputTokens"),
    "cache_write_5m": ("cacheWriteInputTokenCount", "cacheWriteInputTokens"),
}


def tier_of_headers(headers: Headers) -> str:
    """Return "optimized" if a reply's headers report optimized latency, else their service tier, or ""."""
    if headers.get("x-amzn-bedrock-performanceconfig-latency") == "optimized":
        return "optimized"
    return headers.get("x-amzn-bedrock-service-tier", "")


def usage_of_headers(headers: Headers) -> Usage:
    """Return the token counts in the headers of an InvokeModel reply. A missing count is 0."""
    return Usage(**{kind: _count(headers.get(name)) for kind, name in _HEADERS.items()})


def headers_of(usage: Usage) -> dict[str, str]:
    """Return the counts as the headers that `usage_of_headers` reads. One header has the sum of all cache writes."""
    counts = {**usage.as_dict(), "cache_write_5m": usage.cache_write_5m + usage.cache_write_1h}
    return {name: str(counts[kind]) for kind, name in _HEADERS.items()}


def _count(value: Any) -> int:
    digits = str(value)
    # a number with more digits exceeds `MAX_COUNT`; int() raises for one with more than 4300 digits
    number = int(digits) if digits.isdecimal() and len(digits) <= len(str(MAX_COUNT)) else 0
    return number if number <= MAX_COUNT else 0


def output_bytes(event: Event) -> int:
    """Return the number of bytes of all strings in an event: each model family has its own member for the text."""
    size, values = 0, [event.data]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
        else:
            size += json_api.text_bytes(value)
    return size


def checked(body: bytes) -> bytes:
    """Return the body of a reply. Raises `BadFrame` if it is none.

    A model's own container may answer with a list, as SageMaker's containers do.
    """
    data = _decoded(body)
    if not data or not isinstance(data, dict | list) or is_error(data):
        raise BadFrame("the provider's reply is neither a JSON object nor a list")
    return body


def _decoded(body: bytes) -> Any:
    try:
        return lenient_json.loads(body)
    except orjson.JSONDecodeError:
        return None


class Meter:
    def __init__(self, known: Usage, tier: str = "") -> None:
        self._facts = Facts(usage=known, reported=known.input + known.output > 0, tier=tier)

    def feed(self, event: Event) -> None:
        if event.kind == INVOCATION_METRICS:
            self._merge(mapping(event.data))

    def whole(self, body: bytes) -> None:
        data = _decoded(body)
        if not isinstance(data, dict):
            return
        self._facts.stop = text(data.get("stopReason")) or text(data.get("stop_reason"))
        for source in (data, data.get("usage")):
            if isinstance(source, dict):
                self._merge(source)

    def facts(self) -> Facts:
        return self._facts

    def _merge(self, source: Mapping[str, Any]) -> None:
        usage = Usage(**{kind: max(_count(source.get(name)) for name in names) for kind, names in _MEMBERS.items()})
        self._facts.usage.merge(usage)
        self._facts.reported = self._facts.reported or usage.input + usage.output > 0
