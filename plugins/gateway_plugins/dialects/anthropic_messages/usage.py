"""Reads the separately billed parts of a reply in Anthropic's dialect from its usage reports.

- Reports come in `message_start`, in `message_delta`, and in Bedrock's metrics (`shared/usage_counts.py`).
- One reply may take several runs of a model. `usage.iterations` has the counts of each run.
- The top-level counts of `usage` are the sum over the iterations of the model that answered. Iterations for compaction,
  and iterations of an advisor model, are billed in addition (Anthropic's SDK, BetaUsage; anthropics/claude-code#81620).
- In a fallback, one model declines, and another model answers. The top-level counts are for the model that answered. A
  model that declined is billed only if it wrote some output (Anthropic's documentation, refusals and fallback).
- The documentation does not say whether the top-level counts include the output of a model that declined. So this
  output becomes a billed part of its own, and the cost is marked as an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.contract.flag import Part, Usage
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.lenient import count, mapping, sequence, text
from gateway_plugins.shared.usage_counts import WRITES, Counts

_COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    # name of a count: path of the count in Anthropic's usage
    "input": ("input_tokens",),
    "output": ("output_tokens",),
    "cache_read": ("cache_read_input_tokens",),
    "cache_write": ("cache_creation_input_tokens",),
    "cache_write_5m": ("cache_creation", "ephemeral_5m_input_tokens"),
    "cache_write_1h": ("cache_creation", "ephemeral_1h_input_tokens"),
    "reasoning": ("output_tokens_details", "thinking_tokens"),
}
_METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("inputTokenCount",),
    "output": ("outputTokenCount",),
    "cache_read": ("cacheReadInputTokenCount",),
    "cache_write": ("cacheWriteInputTokenCount",),
}
_TOOLS: Final[Mapping[str, tuple[str, ...]]] = {"web_search": ("server_tool_use", "web_search_requests")}
"""Tools with a fee, each with the path of the field in `usage` that counts its uses.

Web fetches are free (Anthropic's price page)."""
_TEXTS: Final = ("service_tier", "speed", "inference_geo")
_NO_GEOS: Final = frozenset({"global", "not_available"})
"""Values of `inference_geo` that do not affect the price (Anthropic's documentation, data residency)."""
_MESSAGE: Final = "message"
_FALLBACK: Final = "fallback_message"
_KINDS: Final[Mapping[str, str]] = {"compaction": "compaction", "advisor_message": "advisor"}
"""Kind of the billed part for some types of iterations (runs of a model). `_kind` handles all other types."""
MAX_PARTS: Final = 32
"""Maximum number of billed parts of a reply. If a reply has more parts, their tokens are added to the last part."""
_MAX_KIND: Final = 64
"""Maximum number of characters in the kind of a billed part. A longer kind that the provider sends is cut."""
MAX_ITERATIONS: Final = 1024
"""Maximum number of iterations that are read. If a reply has more, the cost is only an estimate."""

NO_BILL: Final[Mapping[str, int]] = {}


def _count(report: Any, path: tuple[str, ...]) -> int | None:
    for name in path:
        report = mapping(report).get(name)
    return count(report)


def _counts(report: Any, paths: Mapping[str, tuple[str, ...]]) -> dict[str, int | None]:
    return {name: _count(report, path) for name, path in paths.items()}


class Reports:
    """The usage of one reply, as far as it has been reported.

    `billed` has the counts in the reply's headers, by the names in `shared/usage_counts.py`. A header's count is used
    only if the body lacks the count. `tier` is the service tier in the headers.
    """

    def __init__(self, billed: Mapping[str, int] = NO_BILL, tier: str = "") -> None:
        self._billed = billed
        self._counts = Counts()
        self._texts = {"service_tier": tier}
        self._extra: dict[str, int] = {}
        self._iterations: Sequence[Mapping[str, Any]] = ()
        self._repriced = self._has_output = self._is_short = False
        self._first_output = 0

    @property
    def reported(self) -> bool:
        return self._known.reported or bool(self._iterations)

    @property
    def _known(self) -> Counts:
        """The counts in `_reported`. If the output count is missing there, it is that of `message_start`."""
        known = self._reported
        if not self._has_output:
            known.complete({"output": self._first_output})
        return known

    @property
    def _reported(self) -> Counts:
        """The top-level counts of `usage`, completed with the counts in the reply's HTTP headers.

        The output count in the event `message_start` is left out, because it is only the provider's guess.
        """
        known = self._counts.copy()
        known.complete(self._billed)
        return known

    @property
    def service_tier(self) -> str:
        return self._texts["service_tier"]

    @property
    def fallback_model(self) -> str:
        """The model that answered in place of the called model. It is "" if the called model answered."""
        served = (text(one.get("model")) for one in self._iterations if one.get("type") == _FALLBACK)
        return next(served, "")

    def begin(self, report: Any) -> None:
        """Add the `usage` of `message_start`.

        The output count in this event is only a guess. The guess is used if no later report has an output count.
        """
        usage = mapping(report)
        if not self._has_output:
            self._first_output = count(usage.get("output_tokens")) or 0
        self.add({name: value for name, value in usage.items() if name != "output_tokens"})

    def add(self, report: Any) -> None:
        """Add a `usage` object in Anthropic's form. A value that is not an object is ignored."""
        usage = mapping(report)
        self._counts.add(_counts(usage, _COUNTS))
        self._has_output = self._has_output or count(usage.get("output_tokens")) is not None
        self._texts |= {name: value for name in _TEXTS if (value := text(usage.get(name)))}
        self._extra |= {name: number for name, number in _counts(usage, _TOOLS).items() if number is not None}
        if iterations := sequence(usage.get("iterations")):
            self._iterations = [mapping(one) for one in iterations[:MAX_ITERATIONS]]
            self._is_short = len(iterations) > MAX_ITERATIONS
        credit = mapping(mapping(usage.get("fallback_credit")).get("status"))
        self._repriced = self._repriced or credit.get("type") == "redeemed"

    def add_metrics(self, metrics: Any) -> None:
        """Add Bedrock's invocation metrics. A value that is not an object is ignored.

        - AWS bills by the metrics, so their counts replace the counts in `usage`.
        - A count of 0 in the metrics replaces nothing. Some replies have their cache counts only in `usage`
          (litellm#34373), others only in the metrics (new-api#2881).
        - The metrics have a single count for the cache writes of all lifetimes.
        """
        counts = _counts(metrics, _METRICS)
        self._counts.correct(counts)
        self._has_output = self._has_output or bool(counts["output"])

    def top(self) -> dict[str, int]:
        """Return the top-level counts of `usage` that the provider reported, by Anthropic's names.

        The output count in `message_start` is left out, because it is only a guess. If the provider reported cache
        writes only by lifetime, their sum is included.
        """
        known, names = self._reported, ("input", "cache_read", "cache_write", "output")
        known.complete({"cache_write": known.get("cache_write_5m") + known.get("cache_write_1h")})
        return {_COUNTS[name][0]: number for name in names if (number := known.get(name))}

    def lifetimes(self) -> dict[str, int]:
        """Return the number of tokens that were written to the cache, for each lifetime.

        The keys are the names of the fields in Anthropic's `cache_creation`. Return {} if the provider reported no such
        numbers.
        """
        known = self._reported
        return {_COUNTS[name][1]: known.get(name) for name in WRITES if any(map(known.get, WRITES))}

    def parts(self, marks: Marks, model: str = "") -> tuple[list[Part], bool]:
        """Return the billed parts of the reply. The second value is False if their cost is only an estimate.

        - `marks` are the cache breakpoints of the request. `model` is the model that the reply names.
        - Every part has the reply's `inference_geo`, or "" if this region does not affect the price.
        - Every part has the reply's service tier. In fast mode, the tier is `fast` instead, but not for a part that
          names a model of its own, such as an advisor.
        """
        known = self._known
        tier, geo = self._texts["service_tier"], self._texts.get("inference_geo", "")
        geo = "" if geo in _NO_GEOS else geo
        fallback = self.fallback_model
        kind = "fallback" if fallback else _MESSAGE
        own_tier = "fast" if self._texts.get("speed") == "fast" else tier
        usage, exact = known.usage(marks), known.is_exact(marks) and not self._repriced and not self._is_short
        parts = [Part(usage=usage, kind=kind, model=fallback or model, tier=own_tier, geo=geo, extra=dict(self._extra))]
        for iteration in self._iterations:
            counts = Counts()
            counts.add(_counts(iteration, _COUNTS))
            if not counts.reported or (other := _kind(iteration, fallback)) is None:
                continue
            name = text(iteration.get("model"))
            part = Part(
                usage=counts.usage(marks), kind=other, model=name, tier=tier if name else own_tier, geo=geo
            )  # fmt: skip
            parts = _with(parts, part)
            exact = exact and counts.is_exact(marks) and other in _KINDS.values() and len(parts) < MAX_PARTS
        return parts, exact

    def total(self, marks: Marks) -> Usage:
        """Return the tokens of the whole reply, the sum over all billed parts."""
        parts, _ = self.parts(marks)
        return sum((part.usage for part in parts), Usage())


def _kind(iteration: Mapping[str, Any], fallback: str) -> str | None:
    """Return the kind of the billed part for an iteration (one run of a model).

    Return None if the iteration is not billed, or if its tokens are in the top-level counts already. `fallback` is the
    model that answered in place of the called model, or "".
    """
    kind = text(iteration.get("type")) or _MESSAGE
    if kind == _FALLBACK:
        return None
    if kind != _MESSAGE:
        return _KINDS.get(kind, kind[:_MAX_KIND])
    name = text(iteration.get("model"))
    is_other = bool(fallback and name) and not (name.startswith(fallback) or fallback.startswith(name))
    return "declined" if is_other and count(iteration.get("output_tokens")) else None


def _with(parts: list[Part], part: Part) -> list[Part]:
    """Return `parts` with `part` appended. If there are already `MAX_PARTS`, add its tokens to the last one instead."""
    if len(parts) < MAX_PARTS:
        return [*parts, part]
    *others, last = parts
    return [
        *others,
        Part(usage=last.usage + part.usage, kind=last.kind, model=last.model, tier=last.tier, geo=last.geo),
    ]
