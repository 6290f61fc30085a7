"""Estimates of the tokens of a call.

Before the call is sent, the maximum is estimated. After the call, the probable number is estimated if the provider did
not report the usage completely.

- Input is estimated from the size of the body. The estimate of output is the client's output limit. If the client sets
  no limit, output is estimated from the limits of the models.
- The estimates before the call are high. What the call did not use is released when the call is charged.

A flag reads the client's output limit from the body (`Flag.limit`). Prices are in `gateway.money.prices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, Protocol

import orjson

from gateway.contract import lenient_json
from gateway.contract.flag import ClientRequest, Facts, Usage
from gateway.contract.json_api import UNLIMITED

BYTES_PER_TOKEN: Final = 3
"""Bytes of a body that are counted as one token.

English text and code have about four bytes for each token, with the JSON around them. Chinese text has three."""
MEDIUM_TOKENS: Final = 5_000
"""Tokens assumed for each image or file. Anthropic's largest image has 4,784 tokens; a long PDF has more."""
SHORTEST_MEDIUM: Final = 1_000
"""Minimum length of base64 that counts as an image or a file; shorter base64 counts as text."""
SAMPLE: Final = 64
"""Number of characters at each end of a text that are examined to decide whether the text is base64."""
MAX_MEDIA: Final = 500
"""Maximum number of occurrences examined for each text in `_MARKS`; base64 after further occurrences counts as text."""
MAX_OUTPUT: Final = 1_000_000
"""Maximum estimate of output tokens, even if the client's limit is higher. It is above the limit of any model."""
MAX_ROUGH_INPUT: Final = 200_000
"""Maximum number of input tokens of a rough estimate. A larger body consists mostly of images and files."""
TOKENS_PER_SECOND: Final = 100
"""Output tokens that a model is assumed to have written in each second of an interrupted call.

Models write 30 to 150 in a second."""

_MARKS: Final = (b'"data"', b'"bytes"', b";base64,")
"""Texts that precede base64 in request bodies: `data` of Anthropic and Gemini, `bytes` of Converse, and data URLs."""
_PLACEHOLDER: Final = token_hex(16)
"""Text that replaces base64 while a body is decoded. It is random, so that no client can send the same text."""
_TEXTS: Final = frozenset({"input", "json", "input_schema", "inputSchema", "parameters"})
"""Names of members whose objects a model reads as text: arguments, results and schemas of tools."""
_CACHE_MARKS: Final = (b"cache_control", b"cachePoint")
_TIER_MARKS: Final = (b"service_tier", b"serviceTier", b'"speed"', b'"latency"', b"inference_geo")
_TIER_HEADERS: Final = ("x-amzn-bedrock-service-tier", "x-amzn-bedrock-performanceconfig-latency")
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\\")


class Priced(Protocol):
    """The prices of one model, as this module uses them."""

    def cost(self, usage: Usage) -> int | None:
        """Return the cost in nanodollars in the standard tier; None if a kind of token in `usage` has no price."""

    def highest_cost(self, usage: Usage) -> int | None:
        """Return the cost in nanodollars in the most expensive tier; None if no tier has a price for every kind."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The maximum number of tokens that a call may use."""

    input: int
    output: int
    caches: bool = False
    """True if parts of the input may be written to a cache, which costs more than plain input."""
    tiered: bool = False
    """True if the request may name a service tier, which may cost more than the standard tier."""

    usual: int = MAX_OUTPUT
    """Maximum number of output tokens that are reserved in a bucket of a rate limit.

    It may be less than `output` for calls without an output limit. Few of these write the maximum, and reserving the
    maximum would refuse other calls. If a call exceeds the rate, later calls wait longer."""

    @property
    def tokens(self) -> int:
        """The number of tokens that are reserved in a bucket of a rate limit."""
        return self.input + min(self.output, self.usual)

    def cost(self, priced: Iterable[Priced]) -> int:
        """Return the cost in nanodollars for the most expensive of several models; 0 if no price is known."""
        usages = [Usage(input=self.input, output=self.output)]
        if self.caches:
            usages.append(Usage(cache_write_5m=self.input, output=self.output))
            usages.append(Usage(cache_write_1h=self.input, output=self.output))
        return max((self._at(price, usage) or 0 for price in priced for usage in usages), default=0)

    def _at(self, price: Priced, usage: Usage) -> int | None:
        return price.highest_cost(usage) if self.tiered else price.cost(usage)


def estimate(request: ClientRequest, limit: int | None, max_outputs: Iterable[int]) -> Estimate:
    """Return the maximum number of tokens that a request may use.

    `limit` is the client's own output limit. `max_outputs` are the output limits of the models that may serve the
    request.
    """
    body = request.top.body
    usual = max(max_outputs, default=1)
    output = max(UNLIMITED, usual)
    if limit is not None and limit > 0:
        output = usual = limit
    caches = any(mark in body for mark in _CACHE_MARKS)
    tiered = any(mark in body for mark in _TIER_MARKS) or any(name in request.headers for name in _TIER_HEADERS)
    return Estimate(input_tokens(body), min(output, MAX_OUTPUT), caches, tiered, usual)


def rough(request: ClientRequest, limit: int | None, max_output: int) -> Estimate:
    """Return an estimate that takes no time, even for a large body, because nothing of the body is examined.

    It is for callers without quotas. `limit` and `max_output` are the output limits of the client and of the model.
    """
    output = limit if limit is not None and limit > 0 else max(UNLIMITED, max_output)
    size = len(request.top.body) // BYTES_PER_TOKEN
    return Estimate(max(1, min(size, MAX_ROUGH_INPUT)), min(output, MAX_OUTPUT))


def input_tokens(body: bytes) -> int:
    """Return the estimated number of input tokens of a request's body, at least 1.

    Each image or file counts as `MEDIUM_TOKENS`, and every three other bytes count as one token.
    """
    spans = sorted({span for mark in _MARKS for span in _base64_values(body, mark)})
    media = [end - start for start, end in _media(body, spans)] if spans else []
    return max(1, (len(body) - sum(media)) // BYTES_PER_TOKEN + len(media) * MEDIUM_TOKENS)


Span = tuple[int, int]


def _media(body: bytes, spans: Sequence[Span]) -> list[Span]:
    """Return those spans of base64 that a model reads as an image or a file.

    A model reads base64 in a tool's input or schema as text. The body is decoded with a placeholder for each span, so
    that decoding is as fast as without the base64.
    """
    parts, at = [], 0
    for number, (start, end) in enumerate(spans):
        parts.append(body[at:start] + f"{_PLACEHOLDER}{number}".encode())
        at = end
    try:
        level: list[Any] = [lenient_json.loads(b"".join((*parts, body[at:])))]
    except orjson.JSONDecodeError:
        return []
    media: list[Span] = []
    while level:
        value = level.pop()
        if isinstance(value, list):
            level.extend(value)
        elif isinstance(value, dict):
            level.extend(inner for name, inner in value.items() if not (name in _TEXTS and isinstance(inner, dict)))
        elif isinstance(value, str) and _PLACEHOLDER in value[-SAMPLE:]:
            media.append(spans[int(value.rpartition(_PLACEHOLDER)[2])])
    return media


def _base64_values(body: bytes, mark: bytes) -> Iterable[Span]:
    """Yield the start and end of each base64 value that follows the text `mark`.

    Searching the bytes without decoding JSON is so fast that even a body of 32 MB hardly delays the event loop.
    """
    at = 0
    for _ in range(MAX_MEDIA):
        at = body.find(mark, at)
        if at < 0:
            return
        at += len(mark)
        start = at
        if mark.endswith(b'"'):
            # only the value of a member counts: `"data": "...`; elsewhere the mark is a word in a text
            opening = body[at : at + 4]
            start = at + opening.find(b'"') + 1 if b'"' in opening and opening.lstrip()[:1] == b":" else -1
        end = body.find(b'"', start) if start >= 0 else -1
        if end - start >= SHORTEST_MEDIUM and _is_base64(body[start : start + SAMPLE] + body[end - SAMPLE : end]):
            yield start, end
            at = end


def _is_base64(sample: bytes) -> bool:
    return _BASE64.issuperset(sample)


def probable(facts: Facts | None, estimated: Estimate, seconds: float) -> Usage:
    """Return the probable usage of a call whose usage the provider did not report completely.

    - The result has at least the numbers of tokens that the provider reported. If the provider did not report the
      usage, input is at least the estimate from before the call.
    - The model is assumed to have written at a constant speed (`TOKENS_PER_SECOND`) for all `seconds` of the call.
      Because most of a long call is waiting, this assumed output is at most half of the estimated output.
    """
    usage = copy(facts.usage) if facts is not None else Usage()
    if facts is None or not facts.reported:
        usage.input = max(usage.input, estimated.input)
    usage.output = max(usage.output, min(estimated.output // 2, int(seconds * TOKENS_PER_SECOND)), 1)
    return usage


def rate_limited_tokens(usage: Usage) -> int:
    """Return the number of tokens that count towards a rate limit.

    Tokens read from a cache do not count. They cost a provider almost nothing, and Anthropic and Bedrock do not count
    them in their own limits either.
    """
    return usage.input + usage.output + usage.cache_write_5m + usage.cache_write_1h
