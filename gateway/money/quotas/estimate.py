"""What a call may use at most, before it is made, and what it has probably used where nobody says.

The input is estimated from the body's size, the output is what the client allows or else the model's own limit. Both
err on the high side: what was reserved too much comes back when the call is settled. Where the output limit stands in a
body is the flag's to know (`Flag.limit`), prices are the price book's.
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
from gateway.upstream.catalog import Offer

BYTES_PER_TOKEN: Final = 3
"""English text and code have about four, JSON around it included; Chinese has three bytes for about one."""
MEDIUM_TOKENS: Final = 5_000
"""For an image or a file: Anthropic's largest image is 4,784 tokens; a long PDF has more."""
SHORTEST_MEDIUM: Final = 1_000
"""Characters below which base64 is counted as text."""
SAMPLE: Final = 64
"""Characters at either end of a value by which base64 is told from text."""
MAX_MEDIA: Final = 500
"""Marks that are looked at of each kind; what is behind more of them counts as text."""
MAX_OUTPUT: Final = 1_000_000
"""Tokens: more than any model's limit, whatever a client asks for."""
TOKENS_PER_SECOND: Final = 100
"""Of output, where a call is cut: models write 30 to 150."""

_MARKS: Final = (b'"data"', b'"bytes"', b";base64,")
"""What stands before base64 in a body of any dialect: Anthropic's and Gemini's data, Converse's bytes, data URLs."""
_IN_PLACE: Final = token_hex(16)
"""What stands for a medium while a body is looked through; nobody else knows it."""
_TEXTS: Final = frozenset({"input", "json", "input_schema", "inputSchema", "parameters"})
"""Objects that a model reads as they are written: what tools were called with, what they answered, what they take."""
_CACHE_MARKS: Final = (b"cache_control", b"cachePoint")
_TIER_MARKS: Final = (b"service_tier", b"serviceTier", b'"speed"', b'"latency"', b"inference_geo")
_TIER_HEADERS: Final = ("x-amzn-bedrock-service-tier", "x-amzn-bedrock-performanceconfig-latency")
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\\")


class Priced(Protocol):
    """The prices of one model."""

    def cost(self, usage: Usage) -> int | None:
        """Nanodollars; None where a kind that was used has no price."""

    def dearest(self, usage: Usage) -> int | None:
        """The same in the service tier that costs most."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens that a call may use at most."""

    input: int
    output: int
    caches: bool = False
    """Parts of the input may be written to a cache, which costs more than reading them."""
    tiered: bool = False
    """A service tier is asked for, which may cost more than the standard one."""

    usual: int = MAX_OUTPUT
    """Of the output, what is held of a rate of tokens: without a limit few calls write what they may, and holding all
    of that would refuse others; a rate that was passed is made up for by waiting."""

    @property
    def tokens(self) -> int:
        """What is held of a rate."""
        return self.input + min(self.output, self.usual)

    def cost(self, priced: Iterable[Priced]) -> int:
        """Nanodollars at the dearest of the prices; 0 where nothing is known."""
        usages = [Usage(input=self.input, output=self.output)]
        if self.caches:
            usages.append(Usage(cache_write_5m=self.input, output=self.output))
            usages.append(Usage(cache_write_1h=self.input, output=self.output))
        return max((self._at(price, usage) or 0 for price in priced for usage in usages), default=0)

    def _at(self, price: Priced, usage: Usage) -> int | None:
        return price.dearest(usage) if self.tiered else price.cost(usage)


def estimate(ask: ClientRequest, limit: int | None, offers: Iterable[Offer]) -> Estimate:
    """What an ask may use; `limit` is the client's own limit of the output."""
    body = ask.top.body
    usual = max((offer.caps.max_output for offer in offers), default=1)
    output = max(UNLIMITED, usual)
    if limit is not None and limit > 0:
        output = usual = limit
    caches = any(mark in body for mark in _CACHE_MARKS)
    tiered = any(mark in body for mark in _TIER_MARKS) or any(name in ask.headers for name in _TIER_HEADERS)
    return Estimate(input_tokens(body), min(output, MAX_OUTPUT), caches, tiered, usual)


def input_tokens(body: bytes) -> int:
    """Tokens of a request's body, at least 1: a third of its bytes, with each medium in base64 a constant."""
    spans = sorted({span for mark in _MARKS for span in _media(body, mark)})
    media = [end - start for start, end in _shown(body, spans)] if spans else []
    return max(1, (len(body) - sum(media)) // BYTES_PER_TOKEN + len(media) * MEDIUM_TOKENS)


Span = tuple[int, int]


def _shown(body: bytes, spans: Sequence[Span]) -> list[Span]:
    """Those of the values that a model is shown as media: what stands in a tool's input or schema it reads as text.

    The body is decoded for it with a word in place of each, so that this takes no longer than for one without media.
    """
    parts, at = [], 0
    for number, (start, end) in enumerate(spans):
        parts.append(body[at:start] + f"{_IN_PLACE}{number}".encode())
        at = end
    try:
        level: list[Any] = [orjson.loads(b"".join((*parts, body[at:])))]
    except orjson.JSONDecodeError:
        return []
    found: list[Span] = []
    while level:
        value = level.pop()
        if isinstance(value, list):
            level.extend(value)
        elif isinstance(value, dict):
            level.extend(inner for name, inner in value.items() if not (name in _TEXTS and isinstance(inner, dict)))
        elif isinstance(value, str) and _IN_PLACE in value[-SAMPLE:]:
            found.append(spans[int(value.rpartition(_IN_PLACE)[2])])
    return found


def _media(body: bytes, mark: bytes) -> Iterable[Span]:
    """Where the base64 values behind a mark begin and end.

    Each is found by searching bytes, at the speed of memory: a body of 32 MB must not hold up the loop.
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
    """What a call has probably used that ended `seconds` after it began, where the provider did not say all of it.

    What was reported counts; a model that was cut off has written for as long as the call took, yet not more than half
    of what it might: of a long wait most was waiting.
    """
    usage = copy(facts.usage) if facts is not None else Usage()
    if facts is None or not facts.reported:
        usage.input = max(usage.input, estimated.input)
    usage.output = max(usage.output, min(estimated.output // 2, int(seconds * TOKENS_PER_SECOND)), 1)
    return usage


def rated(usage: Usage) -> int:
    """The tokens that count towards a rate: what was read from a cache costs a provider next to nothing, and Anthropic
    and Bedrock leave it out of theirs as well.
    """
    return usage.input + usage.output + usage.cache_write_5m + usage.cache_write_1h
