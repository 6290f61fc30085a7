"""Facts of a reply: what accounting needs to know of it, in one vocabulary for every dialect.

A part of the plugin contract, and imported from `flag.py`, which has the rest. Prices and sums belong elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec


class Usage(msgspec.Struct, gc=False):
    """Tokens by kind, each kind apart: `input` holds neither cache reads nor cache writes.

    Bedrock and Anthropic report in this way; OpenAI's `prompt_tokens` includes what was read from a cache and is split
    by the flag that reads it. `reasoning` is a part of `output`, never added to it.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    def merge(self, other: Usage) -> None:
        """Take the larger of each kind: reports are cumulative, and some sources leave kinds out."""
        for name in USAGE_KINDS:
            value = getattr(other, name)
            if value > getattr(self, name):
                setattr(self, name, value)

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in USAGE_KINDS}


USAGE_KINDS: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")


@dataclass(slots=True)
class Facts:
    """What accounting needs from a reply, in one vocabulary."""

    usage: Usage = field(default_factory=Usage)
    reported: bool = False
    """The provider said how many tokens it was; if not, cost is unknown, never 0."""
    stop: str = ""
    """The provider's own stop reason; "" while there is none."""
    tools: list[str] = field(default_factory=list)
    """Names of the tools that the model called, in order."""
    model: str = ""
    """The model that the reply names."""
    tier: str = ""
    """The service tier that served it, where the provider says so."""
    extra: dict[str, int] = field(default_factory=dict)
    """Counts of what is paid for beside tokens, such as `web_search` or `image`."""
