"""Facts of a reply, for accounting, in one vocabulary for every dialect.

Plugins import them from `flag.py`, with the rest of the contract. Prices and sums do not live here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec


class Usage(msgspec.Struct, gc=False):
    """Tokens by kind. `input` holds neither cache reads nor cache writes.

    Bedrock and Anthropic report in this way. OpenAI's `prompt_tokens` includes cache reads; its flag subtracts them.
    `reasoning` is a part of `output` and is never added to it.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    def merge(self, other: Usage) -> None:
        """Take the larger number of each kind: reports are cumulative, and some of them leave kinds out."""
        for name in USAGE_KINDS:
            value = getattr(other, name)
            if value > getattr(self, name):
                setattr(self, name, value)

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in USAGE_KINDS}


USAGE_KINDS: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")


@dataclass(slots=True)
class Facts:
    """Facts of one reply."""

    usage: Usage = field(default_factory=Usage)
    reported: bool = False
    """True if the provider reported tokens; if not, the cost is unknown, never 0."""
    stop: str = ""
    """The provider's own stop reason; "" before there is one."""
    tools: list[str] = field(default_factory=list)
    """Names of the tools that the model called, in order."""
    model: str = ""
    """The model that the reply names."""
    tier: str = ""
    """The service tier that served the call, if the provider names one."""
    extra: dict[str, int] = field(default_factory=dict)
    """Counts of billed items other than tokens, such as `web_search` or `image`."""
