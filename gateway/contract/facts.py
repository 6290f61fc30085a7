"""The facts that the gateway records about a reply: tokens, stop reason, tools and model, in one form for all dialects.

Plugins import these classes from `flag.py`, with the rest of the contract. Prices and totals are computed elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec


class Usage(msgspec.Struct, gc=False):
    """Numbers of tokens by kind.

    `input` includes neither cache reads nor cache writes, as in the reports of Bedrock and Anthropic. OpenAI's
    `prompt_tokens` includes cache reads, so OpenAI's flags subtract the cache reads. `reasoning` is a part of `output`.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    def merge(self, other: Usage) -> None:
        """Set each kind to the larger number of the two reports. Reports are cumulative, and some leave kinds out."""
        for name in USAGE_KINDS:
            value = getattr(other, name)
            if value > getattr(self, name):
                setattr(self, name, value)

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in USAGE_KINDS}


USAGE_KINDS: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")


@dataclass(slots=True)
class Facts:
    """The tokens, stop reason, tools and model of one reply."""

    usage: Usage = field(default_factory=Usage)
    reported: bool = False
    """True if the provider reported tokens. If False, zeros in `usage` do not mean that the call was free."""
    stop: str = ""
    """The provider's own stop reason; "" if there is none yet."""
    tools: list[str] = field(default_factory=list)
    """Names of the tools that the model called, in order."""
    model: str = ""
    """The model's name in the reply; "" if the reply names none."""
    tier: str = ""
    """The service tier that served the call; "" if the provider names none."""
    extra: dict[str, int] = field(default_factory=dict)
    """Counts of billed items other than tokens, such as `web_search` or `image`."""
