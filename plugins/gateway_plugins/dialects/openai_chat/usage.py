"""Computes the usage (tokens) of a reply in the Chat dialect from its usage reports.

Usage of the Responses API is read here too, after its fields are renamed (`dialects/openai_responses/facts.py`).

- A stream may have several reports. Each is cumulative, so the last one has the whole usage (OpenAI's API reference:
  `stream_options`; vLLM's `continuous_usage_stats`; can1357/oh-my-pi#5022).
- A count that the last report lacks is taken from an earlier report. A count of cache tokens is taken only if both
  reports have the same prompt count.
- A report that is empty, null, or has only zeros replaces nothing.
- Normally the prompt count includes the cache tokens (tokens read from a cache or written to it). Servers that pass on
  Anthropic's counts exclude cache tokens from the prompt count. Two signs show this: the prompt count is below the
  count of cache tokens, or the total is the sum of the prompt, completion and cache counts.
- xAI and Gemini do not count thinking as completion tokens, but include it in the total
  (UKGovernmentBEIS/inspect_ai#5528).
- Servers name the cached tokens differently: see `_READ` and `_WRITTEN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, NamedTuple

from gateway.contract.flag import Part, Usage
from gateway_plugins.shared.cache_marks import FIVE_MINUTES, MIXED, Marks
from gateway_plugins.shared.lenient import MAX_COUNT, count, mapping

Path = tuple[str, ...]

_READ: Final[tuple[Path, ...]] = (
    ("prompt_tokens_details", "cached_tokens"),  # OpenAI and most others
    ("prompt_tokens_details", "cached_read_tokens"),  # Bifrost
    ("prompt_tokens_details", "cache_read_input_tokens"),
    ("prompt_token_details", "cached_tokens"),  # Mistral (vercel/ai#14382)
    ("input_tokens_details", "cached_tokens"),  # relays that mix Responses into Chat (new-api)
    ("prompt_cache_hit_tokens",),  # DeepSeek
    ("cached_tokens",),  # Kimi (earendil-works/pi#8075), Together
    ("num_cached_tokens",),  # Mistral
    ("cache_read_input_tokens",),  # LiteLLM
    ("cache_read_tokens",),
)
"""Paths at which servers report the number of tokens read from a cache. The first number above 0 is used."""
_WRITTEN: Final[tuple[Path, ...]] = (
    ("prompt_tokens_details", "cache_write_tokens"),  # OpenAI, OpenRouter
    ("prompt_tokens_details", "cache_creation_tokens"),  # LiteLLM
    ("prompt_tokens_details", "cached_write_tokens"),  # Bifrost
    ("prompt_tokens_details", "cached_creation_tokens"),  # new-api
    ("prompt_tokens_details", "cache_creation_input_tokens"),  # DashScope
    ("cache_creation_input_tokens",),  # LiteLLM
)
"""Paths at which servers report the number of tokens written to a cache, whatever the lifetime of the cache entry."""
_WRITTEN_1H: Final[tuple[Path, ...]] = (
    ("prompt_tokens_details", "cache_creation_token_details", "ephemeral_1h_input_tokens"),  # LiteLLM
    ("prompt_tokens_details", "cache_creation", "ephemeral_1h_input_tokens"),  # DashScope
    ("cache_creation", "ephemeral_1h_input_tokens"),
    ("claude_cache_creation_1_h_tokens",),  # new-api
)
"""Paths at which servers report the number of tokens written to a cache for an hour.

The numbers at the paths in `_WRITTEN` include these tokens."""
_WRITTEN_5M: Final[tuple[Path, ...]] = (
    ("prompt_tokens_details", "cache_creation_token_details", "ephemeral_5m_input_tokens"),
    ("prompt_tokens_details", "cache_creation", "ephemeral_5m_input_tokens"),
    ("cache_creation", "ephemeral_5m_input_tokens"),
    ("claude_cache_creation_5_m_tokens",),
)


class _Places(NamedTuple):
    """The paths at which different servers report the same count, such as the tokens read from a cache."""

    paths: tuple[Path, ...]
    heads: frozenset[str]
    """First field name of each path. A report that has none of these fields has no value at any of the paths."""


def _places(*paths: Path) -> _Places:
    return _Places(paths, frozenset(path[0] for path in paths))


_CACHED: Final[Mapping[str, _Places]] = {
    "read": _places(*_READ),
    "written": _places(*_WRITTEN),
    "written_1h": _places(*_WRITTEN_1H),
    "written_5m": _places(*_WRITTEN_5M),
}
_REASONING: Final = _places(("completion_tokens_details", "reasoning_tokens"), ("reasoning_tokens",))
_MEDIA: Final[Mapping[str, Path]] = {
    "image_input": ("prompt_tokens_details", "image_tokens"),
    "audio_input": ("prompt_tokens_details", "audio_tokens"),
    "image_output": ("completion_tokens_details", "image_tokens"),
    "audio_output": ("completion_tokens_details", "audio_tokens"),
}
"""Paths of the counts of image and audio tokens. The prompt and completion counts include these tokens."""
_SEARCHES: Final = _places(
    ("server_tool_use", "web_search_requests"),  # OpenRouter
    ("server_tool_use_details", "web_search_requests"),
    ("num_search_queries",),  # Perplexity
    ("num_sources_used",),  # xAI
)
"""Paths at which servers report the number of web searches. Searches are billed in addition to the tokens."""
_NANO: Final = 9
"""Number of decimal places between dollars and nanodollars."""
_MAX_CHARGE: Final = 1_000_000
"""Maximum plausible charge for one request in dollars. A report of a larger charge is ignored."""


def _at(report: Any, path: Path) -> Any:
    """Return the value at a path, or None if there is none."""
    for name in path:
        if not isinstance(report, dict):
            return None
        report = report.get(name)
    return report


def _first(report: Mapping[str, Any], places: _Places) -> int | None:
    """Return the first number above 0 at the paths of `places` in a report.

    If all numbers at these paths are 0, return 0. If there is no number at these paths, return None.
    """
    if places.heads.isdisjoint(report):
        return None
    found = None
    for path in places.paths:
        if path[0] in report and (number := count(_at(report, path))) is not None:
            if number:
                return number
            found = 0
    return found


class Reports:
    """The usage of one reply, as far as it has been reported."""

    def __init__(self) -> None:
        self._prompt = self._completion = self._reasoning = 0
        self._total: int | None = None
        self._cached: dict[str, int] = {}
        self._written = 0
        """The number of tokens that were written to a cache, for any lifetime."""
        self._is_cache_outside = False
        """Whether the prompt count excludes the cache tokens (tokens read from a cache or written to it)."""
        self._more_output = 0
        """The number of output tokens that `completion_tokens` does not include, limited to `MAX_COUNT`."""
        self.extra: dict[str, int] = {}
        self.reported = False
        self.charged: int | None = None
        """The charge in nanodollars that the provider reports (OpenRouter), or None if the reply has no such report."""

    def add(self, usage: Mapping[str, Any]) -> None:
        """Update the counts from one report: the value of a Chat field `usage`."""
        prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
        if not prompt and not completion:
            return
        self.reported = True
        cached = {name: number for name, places in _CACHED.items() if (number := _first(usage, places)) is not None}
        if prompt:
            self._cached = {**self._cached, **cached} if prompt == self._prompt else cached
            self._prompt = prompt
        if completion:
            self._completion = completion
        if (reasoning := _first(usage, _REASONING)) is not None:
            self._reasoning = reasoning
        self._total = count(usage.get("total_tokens"))
        media = {
            name: number for name, path in _MEDIA.items() if path[0] in usage and (number := count(_at(usage, path)))
        }
        searches = _first(usage, _SEARCHES)
        self.extra |= media | ({"web_search": searches} if searches else {})
        charged = _charged(usage)
        self.charged = self.charged if charged is None else charged
        self._compare()

    def part(self, marks: Marks, model: str = "", tier: str = "") -> Part:
        """Return the usage of the reply, with the model and the service tier that decide its price.

        `marks` are the cache breakpoints of the request. If the reply does not tell the lifetime of written cache
        entries, the lifetime is read from them.
        """
        read, written = self._cached.get("read", 0), self._written
        hour = min(self._cached.get("written_1h", 0), written)
        unknown = max(0, written - hour - self._cached.get("written_5m", 0))
        if unknown and marks.lifetime != FIVE_MINUTES:
            hour += unknown
        usage = Usage(
            input=self._prompt if self._is_cache_outside else self._prompt - read - written,
            output=self._completion + self._more_output,
            cache_read=read,
            cache_write_5m=written - hour,
            cache_write_1h=hour,
            reasoning=self._reasoning,
        )
        return Part(usage=usage, model=model, tier=tier, extra=dict(self.extra))

    def is_exact(self, marks: Marks) -> bool:
        """Return whether the reported counts determine the price. False if a count or a cache lifetime was assumed.

        `marks` are the cache breakpoints of the request.
        """
        unknown = self._written > self._cached.get("written_1h", 0) + self._cached.get("written_5m", 0)
        assumed = self._more_output and self._more_output != self._reasoning
        return not assumed and not (unknown and marks.lifetime == MIXED)

    def _compare(self) -> None:
        """Find out whether the prompt count excludes cache tokens, and how much output the completion count excludes.

        Some servers do not count thinking as completion tokens.
        """
        read = self._cached.get("read", 0)
        by_lifetime = self._cached.get("written_1h", 0) + self._cached.get("written_5m", 0)
        self._written = max(self._cached.get("written", 0), by_lifetime)
        cached = read + self._written
        beyond = max(0, (self._total or 0) - self._prompt - self._completion)
        self._is_cache_outside = cached > self._prompt or (bool(cached) and beyond == cached != self._reasoning)
        if self._is_cache_outside:
            self._more_output = max(0, min(beyond - cached, MAX_COUNT))
        elif not self._total and self._reasoning > self._completion:
            self._more_output = self._reasoning
        else:
            self._more_output = beyond


def _charged(usage: Mapping[str, Any]) -> int | None:
    """Return the amount in nanodollars that the provider charges, or None if it reports no amount.

    OpenRouter may call another provider with the user's own key. In this case, OpenRouter charges a fee, the other
    provider charges the rest, and the amount is the sum. OpenRouter's credits are US dollars (OpenRouter's
    documentation, usage accounting).
    """
    amounts = [usage.get("cost")]
    if usage.get("is_byok") is True:
        amounts.append(mapping(usage.get("cost_details")).get("upstream_inference_cost"))
    total = Decimal(0)
    for amount in amounts:
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount <= _MAX_CHARGE:
            return None
        total += Decimal(str(amount))  # the decimal text of a float is the text that the provider wrote
    return int(total.scaleb(_NANO).quantize(Decimal(1), ROUND_HALF_UP))
