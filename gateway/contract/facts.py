"""The facts that the gateway records about a reply: tokens, stop reason, tools and models.

The classes are the same for all API formats. Plugins import them from `flag.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Numbers of tokens by kind.

    - `input` includes neither cache reads nor cache writes. If a provider's number includes cache reads, as OpenAI's
      `prompt_tokens` does, the plugin subtracts them.
    - `output` includes `reasoning`.

    >>> Usage(input=3, output=2) + Usage(output=1, cache_read=5)
    Usage(input=3, output=3, cache_read=5, cache_write_5m=0, cache_write_1h=0, reasoning=0)
    >>> Usage(output=1).as_dict()["output"]
    1
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write_5m + other.cache_write_5m,
            self.cache_write_1h + other.cache_write_1h,
            self.reasoning + other.reasoning,
        )

    def as_dict(self) -> dict[str, int]:
        """Return a dict with the number of tokens of each kind, such as `input`."""
        return {name: getattr(self, name) for name in USAGE_KINDS}


USAGE_KINDS: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")
"""The names of the fields of `Usage`."""
MESSAGE: Final = "message"
"""The `Part.kind` of the reply itself."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A separately billed part of a call: the reply itself, or other work, such as a summary of the conversation.

    >>> part = Part(usage=Usage(input=3, output=2), model="acme-1", extra={"image": 1})
    >>> part.kind, part.as_dict()["tokens"]["input"]
    ('message', 3)
    """

    usage: Usage = Usage()
    kind: str = MESSAGE
    """The kind of work.

    - `message`: the reply. `fallback`: a reply by a model that replaced the requested model.
    - `declined`: output that the model wrote before it declined to answer.
    - `compaction`: a summary of the earlier conversation. `advisor`: advice by another model.
    - Any other kind has the provider's own name."""
    model: str = ""
    """The model that did the work, as the provider names it. It is "" if the provider names none."""
    tier: str = ""
    """The service tier that the provider reports. It is "" if the provider reports none."""
    geo: str = ""
    """The region in which the model ran (Anthropic's `inference_geo`). It is "" if the provider names none."""
    extra: Mapping[str, int] = {}
    """Counts of billed items other than tokens, such as `web_search` or `image`."""

    def as_dict(self) -> dict[str, Any]:
        """Return the part as the API and the log show it."""
        return {
            "kind": self.kind,
            "model": self.model,
            "tokens": self.usage.as_dict(),
            "extra": dict(self.extra),
            "tier": self.tier,
            "geo": self.geo,
        }


@dataclass(slots=True)
class Facts:
    """The tokens, stop reason, tools and models of one reply.

    >>> parts = (Part(usage=Usage(output=2), model="acme-1"), Part(usage=Usage(output=5), kind="advisor"))
    >>> facts = Facts(parts, reported=True, stop="end")
    >>> facts.usage.output, facts.model, facts.tier, facts.geo, facts.extra
    (7, 'acme-1', '', '', {})
    """

    parts: Sequence[Part] = (Part(),)
    """The separately billed parts of the call. The first part is the reply itself."""
    reported: bool = False
    """True if the provider reported tokens. If it is False, the numbers of tokens are unknown, and not 0."""
    inexact: bool = False
    """True if the cost cannot be computed exactly, for example because a tool's fee depends on its running time."""
    charged: int | None = None
    """The cost in nanodollars that the provider reports, as OpenRouter does. It is None if no cost is reported."""
    stop: str = ""
    """The provider's stop reason, unchanged. It is "" if there is none yet."""
    tools: list[str] = field(default_factory=list)
    """Names of the tools that the model called, in order."""

    @property
    def usage(self) -> Usage:
        """The tokens of the whole call: the sum over all `parts`."""
        if len(self.parts) == 1:
            return self.parts[0].usage
        return sum((part.usage for part in self.parts), Usage())

    @property
    def model(self) -> str:
        """The model that wrote the reply, as the provider names it. It is "" if the provider names none."""
        return self.parts[0].model

    @property
    def tier(self) -> str:
        return self.parts[0].tier

    @property
    def geo(self) -> str:
        return self.parts[0].geo

    @property
    def extra(self) -> Mapping[str, int]:
        """The counts of billed items other than tokens, summed over all parts."""
        if len(self.parts) == 1:
            return self.parts[0].extra
        counts: dict[str, int] = {}
        for part in self.parts:
            for name, count in part.extra.items():
                counts[name] = counts.get(name, 0) + count
        return counts
