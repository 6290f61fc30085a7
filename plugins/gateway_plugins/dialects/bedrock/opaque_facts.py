"""Reads the token counts of an InvokeModel reply whose body is opaque (not interpreted).

Some model families report usage in the body, or in the last chunks of a stream. The last chunk usually has metrics, and
replies have headers with counts. AWS bills by the metrics, so they replace all other counts. A count that is neither in
the metrics nor in the body is taken from the headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.contract import json_api, lenient_json
from gateway.contract.errors import BadFrame
from gateway.contract.flag import ClientRequest, Event, Facts, Headers, Part, Usage
from gateway.contract.provider_errors import is_error
from gateway_plugins.dialects.anthropic_messages.facts import INVOCATION_METRICS
from gateway_plugins.dialects.openai_chat import usage as chat_usage
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.lenient import count, mapping, text
from gateway_plugins.shared.usage_counts import Counts

_HEADERS: Final[Mapping[str, str]] = {
    "input": "x-amzn-bedrock-input-token-count",
    "output": "x-amzn-bedrock-output-token-count",
    "cache_read": "x-amzn-bedrock-cache-read-input-token-count",
    "cache_write": "x-amzn-bedrock-cache-write-input-token-count",
}
"""Name of the header for each count. The keys are names of counts in `shared/usage_counts.py`."""
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    # name of a count: fields in usage objects (Nova), in bodies (Llama, DeepSeek, Titan) and in the metrics
    "input": ("inputTokens", "inputTokenCount", "prompt_tokens", "prompt_token_count", "inputTextTokenCount"),
    "output": ("outputTokens", "outputTokenCount", "completion_tokens", "generation_token_count"),
    "cache_read": ("cacheReadInputTokenCount", "cacheReadInputTokens"),
    "cache_write": ("cacheWriteInputTokenCount", "cacheWriteInputTokens"),
}
_NO_BILL: Final[Mapping[str, int]] = {}
_STOP: Final = re.compile(rb'"(?:stop_reason|stopReason|finish_reason|completionReason)"\s*:\s*"')
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')


def has_stop(chunk: bytes) -> bool:
    """Return whether the JSON of a chunk has a stop reason, under any of the names that model families use."""
    return _STOP.search(chunk) is not None


def tier_of_headers(headers: Headers) -> str:
    """Return the tier that decides the price: "optimized" for optimized latency, or else the service tier.

    Return "" if the headers report neither.
    """
    if headers.get("x-amzn-bedrock-performanceconfig-latency") == "optimized":
        return "optimized"
    return headers.get("x-amzn-bedrock-service-tier", "")


def counts_of_headers(headers: Headers) -> dict[str, int]:
    """Return the token counts in the headers of an InvokeModel reply. A missing count is 0."""
    return {kind: count(headers.get(name)) or 0 for kind, name in _HEADERS.items()}


def headers_of(usage: Usage) -> dict[str, str]:
    """Return token counts as the headers of an InvokeModel reply, the inverse of `counts_of_headers`.

    One header has the sum of all cache writes.
    """
    counts = {**usage.as_dict(), "cache_write": usage.cache_write_5m + usage.cache_write_1h}
    return {name: str(counts[kind]) for kind, name in _HEADERS.items()}


def output_bytes(event: Event) -> int:
    """Return the number of bytes of all strings in an event.

    All strings count, because the name of the field with the text differs between model families.
    """
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
    """Return `body` if it is a reply: a JSON object, or a list. Some custom models answer with a list.

    Raises `BadFrame` if the body is an error, is empty, or is any other value.
    """
    data = lenient_json.loads_or_none(body)
    if not data or not isinstance(data, dict | list) or is_error(data):
        raise BadFrame("the provider's reply is neither a JSON object nor a list")
    return body


class Meter:
    def __init__(
        self, request: ClientRequest | None = None, billed: Mapping[str, int] = _NO_BILL, tier: str = ""
    ) -> None:
        self._marks = Marks(request)
        self._billed = billed
        self._tier = tier
        self._counts = Counts()
        self._stop = ""

    def feed(self, event: Event) -> None:
        if event.kind == INVOCATION_METRICS:
            self._counts.correct(_counts(mapping(event.data)))
        elif has_stop(event.payload) or _USAGE.search(event.payload):
            self._add(lenient_json.loads_or_none(event.payload))

    def whole(self, body: bytes) -> None:
        self._add(lenient_json.loads_or_none(body))

    def _add(self, data: Any) -> None:
        if not isinstance(data, dict):
            return
        self._stop = text(data.get("stopReason")) or text(data.get("stop_reason")) or self._stop
        self._counts.add(_counts(data))
        self._counts.add(_usage_counts(mapping(data.get("usage")), self._billed))

    def facts(self) -> Facts:
        known = self._counts.copy()
        known.complete(self._billed)
        part = Part(usage=known.usage(self._marks), tier=self._tier)
        exact = known.is_exact(self._marks)
        return Facts((part,), reported=known.reported, inexact=not exact, stop=self._stop)


def _counts(source: Mapping[str, Any]) -> dict[str, int | None]:
    return {kind: max(count(source.get(name)) or 0 for name in names) for kind, names in _MEMBERS.items()}


def _usage_counts(usage: Mapping[str, Any], billed: Mapping[str, int]) -> dict[str, int | None]:
    """Return the counts of the field `usage`.

    If `usage` has the form of OpenAI's API, the prompt count includes the tokens read from a cache. If `usage` does not
    report the number of tokens read from a cache, the number is taken from `billed`, the counts in the reply's headers.
    """
    if "prompt_tokens" not in usage:
        return _counts(usage)
    reports = chat_usage.Reports()
    reports.add({"cached_tokens": billed.get("cache_read"), **usage})
    split = reports.part(Marks()).usage
    return {
        "input": split.input, "output": split.output, "cache_read": split.cache_read,
        "cache_write": split.cache_write_5m, "reasoning": split.reasoning,
    }  # fmt: skip
