"""Computes the tokens of a Gemini reply from its usage reports (`usageMetadata`).

- Each report is cumulative, so a count in a later report replaces the count in an earlier one. A count that is missing
  or 0 replaces nothing, because ProtoJSON leaves zeros out.
- `promptTokenCount` includes `cachedContentTokenCount`. Results of the provider's own tools are counted separately in
  `toolUsePromptTokenCount`, and are billed as input.
- `candidatesTokenCount` excludes `thoughtsTokenCount` in Google's own replies, and includes it in replies of some other
  servers. The total shows which is true (BerriAI/litellm: `is_candidate_token_count_inclusive`).
- The counts of image and audio tokens (such as `image_input`) are parts of the counts of input and output tokens.

Sources: the Gemini API's reference (UsageMetadata), and the google-genai SDK's types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.contract.flag import Part, Usage
from gateway_plugins.shared.lenient import count, mapping, sequence, text

_PROMPT: Final = "promptTokenCount"
_CACHED: Final = "cachedContentTokenCount"
_TOOLS: Final = "toolUsePromptTokenCount"
_OUTPUT: Final = "candidatesTokenCount"
_THOUGHTS: Final = "thoughtsTokenCount"
_TOTAL: Final = "totalTokenCount"
_COUNTS: Final = (_PROMPT, _CACHED, _TOOLS, _OUTPUT, _THOUGHTS, _TOTAL)
_DETAILS: Final = ("promptTokensDetails", "toolUsePromptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails")
_AUDIO: Final = "AUDIO"
_PRICED_APART: Final = {_AUDIO: "audio", "IMAGE": "image"}
"""Modalities whose tokens may have their own price, each with the prefix of its counts in `Part.extra`, such as
`audio_input`."""
_TRAFFIC: Final = {"ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex"}
"""The service tier for each `trafficType` of Vertex that has its own price. All other types have the standard price."""


class Reports:
    """The usage of one reply, from all of its reports. `tier` is the service tier in the reply's headers."""

    def __init__(self, tier: str = "") -> None:
        self._counts: dict[str, int] = dict.fromkeys(_COUNTS, 0)
        self._modalities: dict[str, dict[str, int]] = {}
        self._tier = tier
        self._queries: set[str] = set()
        self._is_grounded = False
        self.reported = False
        """True if a report has a count of tokens, even if it is 0."""

    def add(self, usage: Mapping[str, Any]) -> None:
        """Add a report: the value of `usageMetadata`."""
        counts = {name: number for name in _COUNTS if (number := count(usage.get(name))) is not None}
        self.reported = self.reported or _PROMPT in counts or _OUTPUT in counts or _TOTAL in counts
        self._counts |= {name: number for name, number in counts.items() if number}
        for name in _DETAILS:
            if details := sequence(usage.get(name)):
                self._modalities[name] = dict(_by_modality(details))
        tier = text(usage.get("serviceTier")).lower() or _TRAFFIC.get(text(usage.get("trafficType")), "")
        self._tier = tier or self._tier

    def add_grounding(self, candidate: Mapping[str, Any]) -> None:
        """Add the searches that a candidate reports. Searches are billed in addition to the tokens."""
        if "groundingMetadata" not in candidate:
            return
        metadata = mapping(candidate["groundingMetadata"])
        self._queries |= {query for query in sequence(metadata.get("webSearchQueries")) if text(query)}
        self._is_grounded = self._is_grounded or bool(metadata)

    @property
    def usage(self) -> Usage:
        counts = self._counts
        cached = min(counts[_CACHED], counts[_PROMPT])
        thoughts, output = counts[_THOUGHTS], self._candidates
        if self._includes_thoughts:
            thoughts = min(thoughts, output)
        else:
            output += thoughts
        return Usage(
            input=counts[_PROMPT] - cached + counts[_TOOLS], output=output, cache_read=cached, reasoning=thoughts
        )

    def part(self, model: str) -> Part:
        """Return the usage of the reply. `model` is the model that the reply names."""
        return Part(usage=self.usage, model=model, tier=self._tier, extra=self._extra())

    @property
    def is_exact(self) -> bool:
        """True if the cost follows exactly from the counts. It is False in these cases:

        - The reply used searches. Some models charge a fee per search, and others a fee per prompt.
        - Cached tokens may be audio. Cached audio costs more than other cached tokens.
        - The total has tokens that are in no other count.
        """
        cached_audio = self._modalities.get("cacheTokensDetails", {}).get(_AUDIO, 0)
        return not (self._is_grounded or cached_audio or self._unexplained or self._has_unknown_cache)

    @property
    def _candidates(self) -> int:
        """Number of tokens of the candidates, as reported. If it is missing, it is the total minus the other counts."""
        counts = self._counts
        known = counts[_PROMPT] + counts[_TOOLS] + counts[_THOUGHTS]
        return counts[_OUTPUT] or max(0, counts[_TOTAL] - known)

    @property
    def _includes_thoughts(self) -> bool:
        counts = self._counts
        return bool(counts[_THOUGHTS]) and counts[_TOTAL] == counts[_PROMPT] + counts[_TOOLS] + counts[_OUTPUT]

    @property
    def _unexplained(self) -> int:
        """Number of tokens in the total that are in no other count."""
        counts = self._counts
        known = counts[_PROMPT] + counts[_TOOLS] + counts[_THOUGHTS] + counts[_OUTPUT]
        return max(0, counts[_TOTAL] - known) if counts[_OUTPUT] else 0

    @property
    def _has_unknown_cache(self) -> bool:
        """True if the prompt has audio and was partly cached, and the reply does not say if the audio was cached."""
        audio = self._modalities.get("promptTokensDetails", {}).get(_AUDIO, 0)
        return bool(audio and self._counts[_CACHED] and "cacheTokensDetails" not in self._modalities)

    def _extra(self) -> dict[str, int]:
        extra: dict[str, int] = {}
        cached = self._modalities.get("cacheTokensDetails", {})
        for modality, name in _PRICED_APART.items():
            prompt, tools, output = (
                self._modalities.get(details, {}).get(modality, 0)
                for details in ("promptTokensDetails", "toolUsePromptTokensDetails", "candidatesTokensDetails")
            )
            extra[f"{name}_input"] = max(0, prompt - cached.get(modality, 0)) + tools
            extra[f"{name}_output"] = output
        extra["web_search"] = len(self._queries)
        return {name: number for name, number in extra.items() if number}


def _by_modality(details: list[Any]) -> Iterator[tuple[str, int]]:
    """Yield (modality, tokens) for each `ModalityTokenCount`."""
    for detail in map(mapping, details):
        if number := count(detail.get("tokenCount")):
            yield text(detail.get("modality")), number
