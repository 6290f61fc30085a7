"""Estimates of the tokens of a call: the maximum before the call is sent, and the probable usage after a call whose
usage was not fully reported.

- Input is estimated from the size of the body.
- Output is estimated as the client's output limit. Without such a limit, it is estimated from the limits of the models.
- The estimates before the call are high. What the call does not use is released when the call is charged.
- Rate limits reserve only the typical number of tokens. If a call uses more, later calls merely wait longer.

The plugin of the client's API reads the output limit from the body (`Flag.limit`). It also finds the images, files and
tools in the body (`Flag.billed_parts`), whose tokens are estimated in `contents.py`. Prices are in
`gateway.money.prices`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec
import orjson
from msgspec.structs import replace

from gateway.contract import lenient_json
from gateway.contract.billing import BilledParts
from gateway.contract.escaped_names import may_hide_names
from gateway.contract.flag import ClientRequest, Facts, Members, Usage
from gateway.contract.json_api import LARGE_BODY, UNLIMITED
from gateway.contract.lazy_body import LazyBody
from gateway.contract.result_values import MAX_COUNT
from gateway.money.quotas.contents import Contents, contents_of

BYTES_PER_TOKEN: Final = 3
"""Number of bytes of a body that count as one token. English text and code have about four, so the estimate is high."""
WORD_TOKENS: Final = (5, 8)
"""Highest estimate of tokens for text of lower-case letters and spaces, as a pair: 5 tokens for 8 bytes.

In OpenAI's o200k and cl100k and in Anthropic's published tokenizer, random letters have 1.6 bytes per token, and words
have 3.5. Each byte of other text counts as one token, because digits, base64, Chinese characters and emoji can need
that many.
"""
MAX_SIGNS: Final = 500_000
"""Maximum number of quotes and commas in a body that is decoded on the event loop, which takes less than 0.3 s.

A body with more is not decoded there, and all its bytes count as text. Worker processes, which measure large bodies,
have no such limit.
"""
MAX_UNICODE: Final = 4 * 1024 * 1024
"""Size in bytes from which a body with other characters than ASCII counts in full in `measured_bytes`, including its
long strings. Decoding this many bytes of emoji takes 8 ms.
"""
MAX_OUTPUT: Final = 1_000_000
"""Maximum estimate of output tokens of one answer, even if the client's limit is higher. No model has a higher
limit."""
MAX_ROUGH_INPUT: Final = 200_000
"""Maximum number of input tokens in a rough estimate.

A body whose size suggests more tokens consists mostly of images and files."""
TOKENS_PER_SECOND: Final = 100
"""Number of output tokens that a model is assumed to have written in each second of an interrupted call.

Real models write 30 to 150 in a second."""

CONVERSATION: Final = frozenset(
    {"contents", "input", "instructions", "messages", "prompt", "system", "systemInstruction", "tools"}
)
"""Top-level fields, of all API formats, with the conversation and the tools. They have most bytes of a body.

No field inside them names a service tier, so they are not searched for one.
"""
_CACHE_NAME: Final = re.compile(rb'"cache(?:_control|Point)"')
_TIER_NAME: Final = re.compile(rb'"(?:service_tier|serviceTier|speed|latency|inference_geo)"')
_TIER_HEADERS: Final = ("x-amzn-bedrock-service-tier", "x-amzn-bedrock-performanceconfig-latency")
SEARCH_FEE: Final = 35_000_000
"""Nanodollars for one search whose price is unknown. This is the highest published price of a search (Gemini's
grounding)."""
_UNITS: Final = 10**6
"""Number of price units in one nanodollar. The unit of prices is 1e-15 USD."""
_WORD: Final = b"abcdefghijklmnopqrstuvwxyz "


class Priced(Protocol):
    """The prices of one model, in the form that this module needs."""

    def cost(self, usage: Usage) -> int | None:
        """Return the cost in nanodollars in the standard tier, or None if it is unknown."""

    def highest_cost(self, usage: Usage) -> int | None:
        """Return the cost in nanodollars in the most expensive tier, or None if it is unknown."""

    def unit(self, kind: str) -> int | None:
        """Return the standard price of one token or search of a kind in 1e-15 USD. Return None if it is unknown."""


class Estimate(msgspec.Struct, frozen=True):
    """The maximum number of tokens that a call may use."""

    input: int
    output: int
    caches: bool = False
    """True if the provider may write parts of the input to a cache, which costs more than plain input."""
    tiered: bool = False
    """True if the request may name a service tier that costs more than the standard tier."""

    usual: int = MAX_OUTPUT
    """Number of output tokens that a rate limit reserves, if it is less than `output`.

    It is less for a call without an output limit, because few such calls use the maximum. Reserving the maximum would
    block other calls without need.
    """
    usual_input: int | None = None
    """Typical number of input tokens. It is None if it equals `input`, the maximum."""
    searches: int = 0
    """Maximum number of searches that the provider may charge for."""
    fees: int = 0
    """Fees in nanodollars for tools that the provider runs, other than searches."""

    @property
    def probable_input(self) -> int:
        return self.input if self.usual_input is None else self.usual_input

    @property
    def tokens(self) -> int:
        """The number of tokens that are reserved in a rate limit."""
        return self.probable_input + min(self.output, self.usual)

    def cost(self, price: Priced) -> int:
        """Return the highest cost in nanodollars that the call may have at the prices of one model. It is at most
        `MAX_COUNT`, the largest number that the journal can store.
        """
        costs = [self._at(price, usage) or 0 for usage in self._usages(price)]
        return min(max(costs) + self._fees(price), MAX_COUNT)

    def _usages(self, price: Priced) -> Sequence[Usage]:
        """Return the usages that the provider may report for the estimated tokens: one for each way in which it may
        bill them.

        Input may be billed as plain input or as a cache write, because some of OpenAI's models write caches without
        being asked. Output may be billed as text or as thinking. Kinds without a price of their own are left out.
        """
        writes = ("cache_write_5m", "cache_write_1h") if self.caches else ("cache_write_5m",)
        given = ["input", *[kind for kind in writes if self.tiered or price.unit(kind) is not None]]
        thought = (0, self.output) if self.tiered or price.unit("reasoning") is not None else (0,)
        return [
            Usage(output=self.output, reasoning=reasoning, **{kind: self.input})
            for kind in given
            for reasoning in thought
        ]

    def _fees(self, price: Priced) -> int:
        unit = price.unit("web_search") if self.searches else None
        return self.fees + self.searches * (SEARCH_FEE if unit is None else -(-unit // _UNITS))

    def _at(self, price: Priced, usage: Usage) -> int | None:
        return price.highest_cost(usage) if self.tiered else price.cost(usage)


def estimate(request: ClientRequest, limit: int | None, max_outputs: Iterable[int], size: Size) -> Estimate:
    """Return the maximum number of tokens that a request may use.

    `limit` is the client's own output limit. `max_outputs` are the output limits of the models that may serve the
    request. `size` is the size of the body (`measure`).
    """
    usual = max(max_outputs, default=1)
    output = max(UNLIMITED, usual)
    if limit is not None and limit > 0:
        output = usual = limit
    tiered = size.tiered or any(name in request.headers for name in _TIER_HEADERS)
    fees = (size.searches, size.fees)
    return Estimate(size.most, min(output, size.answers * MAX_OUTPUT), size.caches, tiered, usual, size.usual, *fees)


class Size(msgspec.Struct, frozen=True):
    """The estimated number of input tokens of a request, and other properties of its body that affect the cost."""

    usual: int
    """Estimated number of input tokens, at least 1."""
    most: int
    """A number of input tokens that the request hardly ever exceeds."""
    searches: int = 0
    fees: int = 0
    """Fees in nanodollars for tools that the provider runs, other than searches."""
    caches: bool = False
    """True if the body may ask for prompt caching."""
    tiered: bool = False
    """True if the body may name a service tier."""
    answers: int = 1
    """Number of answers that the request asks for."""


def measure(top: Members, billed_parts: BilledParts, *, is_lazy: bool = False) -> Size:
    """Return the estimated number of input tokens of a request's body, and what else in the body affects the cost.

    - `billed_parts` finds the parts of the body that are not text, such as images. `is_lazy` is true if this function
      needs no `dict` (`billing.lazy`).
    - Words and names of fields are searched in the shortened body. A text of 64 KB without a line break or a quote is
      cut there, so that the estimate becomes too high.

    Measuring 30 MB of small values takes a second, so large bodies should be measured in a worker process
    (`measured_bytes`).
    """
    body, seen, settings = top.body, top.shortened, top.shortened_without(CONVERSATION)
    contents = contents_of(billed_parts(LazyBody(top))) if is_lazy else _contents(body, billed_parts)
    text = max(0, len(body) - contents.size)
    words = 0
    # less than half of base64 is lower-case letters, so nothing is left of the words beside much of it
    if 2 * text > contents.size:
        # the whole size of the media is subtracted, although base64 has other bytes than lower-case letters too; so
        # the number of words is rather too low, and the estimate rather too high
        words = min(text, max(0, len(seen) - len(seen.translate(None, _WORD)) - contents.size))
    tokens, letters = WORD_TOKENS
    return Size(
        _usual(body, contents),
        max(1, text - words + words * tokens // letters + contents.most),
        contents.searches,
        contents.fees,
        top.may_hide_names() or _CACHE_NAME.search(seen) is not None,
        may_hide_names(settings) or _TIER_NAME.search(settings) is not None,
        contents.answers,
    )


def measured_bytes(top: Members) -> int:
    """Return the number of bytes of a body by which to decide whether `measure` takes long.

    Long strings, such as the base64 of images, are not counted, because they take only 0.3 ms a megabyte. But the whole
    body is counted if it has at least `MAX_UNICODE` bytes and other characters than ASCII, because its long strings may
    take much longer.
    """
    is_slow = len(top.body) >= MAX_UNICODE and not top.body.isascii()
    return len(top.body if is_slow else top.shortened)


def _contents(body: bytes, billed_parts: BilledParts) -> Contents:
    """Return the sizes and tokens of everything in a body that is not text. All numbers are 0 for a body that is not a
    JSON object.
    """
    try:
        # `exact` decodes long strings in a quarter of the time
        decoded = lenient_json.exact(body) if len(body) >= LARGE_BODY else lenient_json.loads(body, utf8=True)
    except orjson.JSONDecodeError:
        return Contents()
    return contents_of(billed_parts(decoded)) if isinstance(decoded, dict) else Contents()


def _usual(body: bytes, contents: Contents) -> int:
    """Return the typical number of input tokens of a body, at least 1. Three bytes of text count as one token."""
    return max(1, max(0, len(body) - contents.size) // BYTES_PER_TOKEN + contents.usual)


def rough(request: ClientRequest, limit: int | None, max_output: int) -> Estimate:
    """Return an estimate from the body's size alone, for callers without quotas.

    `limit` and `max_output` are the output limits of the client and of the model.
    """
    output = limit if limit is not None and limit > 0 else max(UNLIMITED, max_output)
    size = len(request.top.body) // BYTES_PER_TOKEN
    return Estimate(max(1, min(size, MAX_ROUGH_INPUT)), min(output, MAX_OUTPUT))


def input_tokens(body: bytes, billed_parts: BilledParts) -> int:
    """Return the typical number of input tokens of a request's body, at least 1.

    Three bytes of text count as one token. `billed_parts` finds what is not text in the body.
    """
    if body.count(b'"') + body.count(b",") > MAX_SIGNS:
        return max(1, len(body) // BYTES_PER_TOKEN)
    return _usual(body, _contents(body, billed_parts))


def probable(facts: Facts | None, estimated: Estimate, seconds: float) -> Usage:
    """Return the probable usage of a call whose usage the provider did not report completely.

    - No number is lower than the reported one. If nothing was reported, the input is the estimate from before the call.
    - The output is `TOKENS_PER_SECOND` times the `seconds` of the call, but at most half of the output estimated before
      the call. A long call consists mostly of waiting, so that the product would be too high.
    """
    usage = facts.usage if facts is not None else Usage()
    is_reported = facts is not None and facts.reported
    output = max(usage.output, min(estimated.output // 2, int(seconds * TOKENS_PER_SECOND)), 1)
    return replace(
        usage, input=usage.input if is_reported else max(usage.input, estimated.probable_input), output=output
    )


def rate_limited_tokens(usage: Usage) -> int:
    """Return the number of tokens that count towards a rate limit.

    Tokens read from a cache do not count, because they cost the provider almost nothing. Anthropic and Bedrock do not
    count them in their own limits either.
    """
    return usage.input + usage.output + usage.cache_write_5m + usage.cache_write_1h
