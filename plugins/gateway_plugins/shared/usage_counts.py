"""Combines the token counts in several reports of one reply, for Messages and Converse.

In these dialects, the input count excludes cache tokens.

- Reports are cumulative. A count in a later report replaces the earlier count, even if the later one is smaller.
  Sources: Anthropic's documentation (Streaming: counts in `message_delta` are cumulative) and its SDKs, which replace
  each count that is not null. Other providers with this API first report a guess, and later the final counts
  (maximhq/bifrost#5354).
- A count that is missing or null replaces nothing.
- The prompt counts are input, cache reads and cache writes. If one of them is above 0 in a report, all prompt counts of
  the report replace the earlier ones. If all of them are 0, they replace nothing, because no prompt has 0 tokens.
- An output count of 0 replaces nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.contract.flag import Usage
from gateway_plugins.shared.cache_marks import FIVE_MINUTES, MIXED, Marks

PROMPT: Final = ("input", "cache_read", "cache_write")
"""Names of the counts that together are all input tokens. `cache_write` is the sum of all cache writes."""
WRITES: Final = ("cache_write_5m", "cache_write_1h")
"""Names of the counts of tokens written to a cache for five minutes and for an hour. `cache_write` includes both."""
_OF_PROMPT: Final = (*PROMPT, *WRITES)
NAMES: Final = (*_OF_PROMPT, "output", "reasoning")
_NONE: Final[Mapping[str, int]] = dict.fromkeys(NAMES, 0)


class Counts:
    """The token counts that a reply has reported so far, by name (`NAMES`)."""

    def __init__(self, counts: Mapping[str, int] = _NONE) -> None:
        self._counts = {**_NONE, **counts}

    def copy(self) -> Counts:
        return Counts(self._counts)

    @property
    def reported(self) -> bool:
        """True if a count above 0 was reported."""
        return any(self._counts.values())

    def get(self, name: str) -> int:
        return self._counts[name]

    def add(self, report: Mapping[str, int | None]) -> None:
        """Update the counts with a later report, by the rules at the beginning of this file."""
        counts = {name: count for name, count in report.items() if count is not None}
        if any(map(counts.get, _OF_PROMPT)):
            self._replace_prompt(counts)
        self._counts |= {name: counts[name] for name in ("output", "reasoning") if counts.get(name)}

    def correct(self, counts: Mapping[str, int | None]) -> None:
        """Overwrite the counts with `counts`, the numbers that the provider bills. A number of 0 or None overwrites
        nothing.
        """
        self._counts |= {name: count for name, count in counts.items() if count}

    def complete(self, counts: Mapping[str, int | None]) -> None:
        """Fill in counts from `counts` that the reply has not reported, or has reported as 0."""
        self._counts |= {name: count for name, count in counts.items() if count and not self.get(name)}

    def usage(self, marks: Marks) -> Usage:
        """Return the counts as a `Usage`, with a number for each kind of token.

        `marks` are the cache marks (`cache_control`, `cachePoint`) of the request. They tell the lifetime of cache
        writes if no lifetime was reported. If the marks have both lifetimes, one hour is assumed, which costs more.
        """
        counts = self._counts
        five, hour, unknown = counts["cache_write_5m"], counts["cache_write_1h"], self._unknown_writes
        if unknown and marks.lifetime != FIVE_MINUTES:
            hour += unknown
        else:
            five += unknown
        return Usage(counts["input"], counts["output"], counts["cache_read"], five, hour, counts["reasoning"])

    def is_exact(self, marks: Marks) -> bool:
        """Return whether the lifetime of every cache write is known.

        The provider reports it, or all cache marks of the request have the same lifetime.
        """
        return not self._unknown_writes or marks.lifetime != MIXED

    @property
    def _unknown_writes(self) -> int:
        """Number of tokens in cache writes whose lifetime was not reported."""
        counts = self._counts
        return max(0, counts["cache_write"] - counts["cache_write_5m"] - counts["cache_write_1h"])

    def _replace_prompt(self, counts: Mapping[str, int]) -> None:
        """Replace the prompt counts by those in `counts`, which are from a later report.

        If the later report has only the sum of cache writes, the earlier numbers for each lifetime are kept. They are
        set to 0 if they exceed this sum.
        """
        self._counts |= {name: counts[name] for name in _OF_PROMPT if name in counts}
        lifetimes = self._counts["cache_write_5m"] + self._counts["cache_write_1h"]
        if counts.keys().isdisjoint(WRITES) and lifetimes > counts.get("cache_write", lifetimes):
            self._counts |= dict.fromkeys(WRITES, 0)
