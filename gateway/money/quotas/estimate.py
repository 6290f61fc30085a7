"""Estimates of tokens: the most that a call may use before it is sent, and its probable use where nothing is reported.

- Input is estimated from the size of the body; output is the client's limit, or else the model's own.
- Both estimates err on the high side. The difference is released when the call is settled.

A flag finds the output limit in a body (`Flag.limit`); prices are in `gateway.money.prices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, Protocol

import orjson

from gateway.contract.flag import ClientRequest, Facts, Usage
from gateway.contract.json_api import UNLIMITED

BYTES_PER_TOKEN: Final = 3
"""Bytes of a body for each token: English text and code have about four, with JSON around them; Chinese has three."""
MEDIUM_TOKENS: Final = 5_000
"""Tokens of an image or a file: Anthropic's largest image is 4,784 tokens; a long PDF has more."""
SHORTEST_MEDIUM: Final = 1_000
"""Characters below which base64 counts as text, because no image or file is that small."""
SAMPLE: Final = 64
"""Characters at either end of a value that must all be base64 for it to count as a medium."""
MAX_MEDIA: Final = 500
"""Most marks of each kind that are examined; media behind more of them count as text."""
MAX_OUTPUT: Final = 1_000_000
"""Most tokens of output that are estimated: more than any model's limit, whatever a client asks for."""
TOKENS_PER_SECOND: Final = 100
"""Tokens of output that a model is assumed to write before a call is cut: models write 30 to 150 in a second."""

_MARKS: Final = (b'"data"', b'"bytes"', b";base64,")
"""Texts before base64 in bodies of all dialects: Anthropic's and Gemini's data, Converse's bytes, data URLs."""
_PLACEHOLDER: Final = token_hex(16)
"""Text in place of a medium while a body is decoded. It is random, so that no client can write it."""
_TEXTS: Final = frozenset({"input", "json", "input_schema", "inputSchema", "parameters"})
"""Members whose objects a model reads as text: arguments of tools, their results and their schemas."""
_CACHE_MARKS: Final = (b"cache_control", b"cachePoint")
_TIER_MARKS: Final = (b"service_tier", b"serviceTier", b'"speed"', b'"latency"', b"inference_geo")
_TIER_HEADERS: Final = ("x-amzn-bedrock-service-tier", "x-amzn-bedrock-performanceconfig-latency")
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\\")


class Priced(Protocol):
    """The prices of one model."""

    def cost(self, usage: Usage) -> int | None:
        """Return nanodollars; None where a kind that was used has no price."""

    def highest_cost(self, usage: Usage) -> int | None:
        """Return the cost in the most expensive service tier."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Most tokens that a call may use."""

    input: int
    output: int
    caches: bool = False
    """Parts of the input may be written to a cache, which costs more than plain input."""
    tiered: bool = False
    """The request names a service tier, which may cost more than the standard one."""

    usual: int = MAX_OUTPUT
    """Tokens of output that are reserved of a rate limit.

    Few calls without a limit write all that they may, and reserving all of that would refuse other calls. A rate that
    is exceeded is made up for by waiting."""

    @property
    def tokens(self) -> int:
        """Tokens that are reserved of a rate limit."""
        return self.input + min(self.output, self.usual)

    def cost(self, priced: Iterable[Priced]) -> int:
        """Return nanodollars at the highest of the prices; 0 where no price is known."""
        usages = [Usage(input=self.input, output=self.output)]
        if self.caches:
            usages.append(Usage(cache_write_5m=self.input, output=self.output))
            usages.append(Usage(cache_write_1h=self.input, output=self.output))
        return max((self._at(price, usage) or 0 for price in priced for usage in usages), default=0)

    def _at(self, price: Priced, usage: Usage) -> int | None:
        return price.highest_cost(usage) if self.tiered else price.cost(usage)


def estimate(request: ClientRequest, limit: int | None, max_outputs: Iterable[int]) -> Estimate:
    """Return the most that a request may use.

    `limit` is the client's own limit of the output, `max_outputs` are those of the models that may serve the request.
    """
    body = request.top.body
    usual = max(max_outputs, default=1)
    output = max(UNLIMITED, usual)
    if limit is not None and limit > 0:
        output = usual = limit
    caches = any(mark in body for mark in _CACHE_MARKS)
    tiered = any(mark in body for mark in _TIER_MARKS) or any(name in request.headers for name in _TIER_HEADERS)
    return Estimate(input_tokens(body), min(output, MAX_OUTPUT), caches, tiered, usual)


def input_tokens(body: bytes) -> int:
    """Return the tokens of a request's body, at least 1: a third of its bytes, and a constant for each medium."""
    spans = sorted({span for mark in _MARKS for span in _base64_values(body, mark)})
    media = [end - start for start, end in _media(body, spans)] if spans else []
    return max(1, (len(body) - sum(media)) // BYTES_PER_TOKEN + len(media) * MEDIUM_TOKENS)


Span = tuple[int, int]


def _media(body: bytes, spans: Sequence[Span]) -> list[Span]:
    """Return the spans that a model reads as media; a model reads base64 in a tool's input or schema as text.

    The body is decoded with a placeholder for each span, so that this takes no longer than for a body without media.
    """
    parts, at = [], 0
    for number, (start, end) in enumerate(spans):
        parts.append(body[at:start] + f"{_PLACEHOLDER}{number}".encode())
        at = end
    try:
        level: list[Any] = [orjson.loads(b"".join((*parts, body[at:])))]
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
    """Yield the start and end of each base64 value behind a mark.

    Values are located by searching bytes, at the speed of memory: a body of 32 MB must not hold up the loop.
    """
    at = 0
    for _ in range(MAX_MEDIA):
        at = body.find(mark, at)
        if at < 0:
            return
        at += len(mark)
        start = at
        if mark.endswith(b'"'):
            # the value of a member: `"data": "...`; anything else is a word in a text
            opening = body[at : at + 4]
            start = at + opening.find(b'"') + 1 if b'"' in opening and opening.lstrip()[:1] == b":" else -1
        end = body.find(b'"', start) if start >= 0 else -1
        if end - start >= SHORTEST_MEDIUM and _is_base64(body[start : start + SAMPLE] + body[end - SAMPLE : end]):
            yield start, end
            at = end


def _is_base64(sample: bytes) -> bool:
    return _BASE64.issuperset(sample)


def probable(facts: Facts | None, estimated: Estimate, seconds: float) -> Usage:
    """Return the probable usage of a call that ended `seconds` after it began, where the report is not complete.

    Reported tokens count. A model that was cut off is assumed to have written for as long as the call took, but at
    most half of the output limit: most of a long call is waiting.
    """
    usage = copy(facts.usage) if facts is not None else Usage()
    if facts is None or not facts.reported:
        usage.input = max(usage.input, estimated.input)
    usage.output = max(usage.output, min(estimated.output // 2, int(seconds * TOKENS_PER_SECOND)), 1)
    return usage


def rate_limited_tokens(usage: Usage) -> int:
    """Return the tokens that count towards a rate limit.

    Tokens read from a cache do not count: they cost a provider next to nothing, and Anthropic and Bedrock leave them
    out of their own limits as well.
    """
    return usage.input + usage.output + usage.cache_write_5m + usage.cache_write_1h
