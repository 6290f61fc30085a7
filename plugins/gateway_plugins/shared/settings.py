"""The parameters of a client's request, and the settings that a model is asked for: decided once, for every conversion.

- A reader of a client dialect makes `Parameters`, each with its JSON pointer in the client's request.
- `decide` makes `Settings` of them, by the model's capabilities and the rules of the upstream dialect. `plan` makes the
  half on which tools depend. What the model cannot do is reported through `drop`, so that the same request loses the
  same in every conversion.
- An upstream dialect writes the settings in its own words.

No member of a body is read or written here. Thinking alone is in `thinking.py`. Source: bedrock.md 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.thinking import ThinkingPlan, ThinkingRequest, plan_thinking

SAMPLING: Final = ("temperature", "top_p", "top_k")
_SAMPLING_AT: Final[Mapping[str, str]] = {name: f"/{name}" for name in SAMPLING}
_MIN_TOP_P: Final = 0.95
"""Smallest top_p that Anthropic takes beside thinking."""
_NEUTRAL: Final[Mapping[str, float]] = {"temperature": 1, "top_p": 1}
"""Values by which a model samples anyway, so that leaving them out loses nothing."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a request as the client sent them. Pointers lead into the client's request."""

    thinking: ThinkingRequest
    limit: int | None
    """Most tokens of output; None if the client sets no limit."""
    limit_at: str
    sampling: Mapping[str, float]
    """Values for the names in `SAMPLING` that the client sends."""
    stops: Sequence[str]
    """Stop sequences."""
    stops_at: str
    sampling_at: Mapping[str, str] = field(default_factory=lambda: _SAMPLING_AT)
    """JSON pointer of each name in `SAMPLING`."""
    max_temperature: float = 1
    """Largest temperature on the client dialect's scale: 2 on OpenAI's."""


@dataclass(frozen=True, slots=True)
class UpstreamRules:
    """Rules of an upstream dialect that hold for every model behind it."""

    needs_limit: bool = False
    """True if every request must set a limit of the output."""
    max_temperature: float = 1
    """Largest temperature on the upstream dialect's scale: 2 on OpenAI's."""
    always_thinking_restricts: bool = False
    """True if a model that always thinks takes as little beside its thinking as one that was asked to think."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The first half of the settings, on which the tools of a request depend."""

    thinking: ThinkingPlan
    thinks: bool
    """True if Anthropic's thinking stands beside the other members, which takes no forced tool and little sampling."""
    limit: int | None
    """Most tokens of output; None if the request sets no limit."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that the model is asked for."""

    thinking: ThinkingPlan
    limit: int | None
    """Most tokens of output; None if the request sets no limit."""
    sampling: Mapping[str, float]
    stops: Sequence[str]


def plan(parameters: Parameters, caps: Caps, rules: UpstreamRules, drop: Drop, *, unsigned_loop: bool = False) -> Plan:
    """Return the thinking and the limit for a request. `unsigned_loop` is explained at `plan_thinking`."""
    limit = _raise_limit(parameters.limit, caps, drop, parameters.limit_at)
    thinking = plan_thinking(parameters.thinking, limit, caps, drop, unsigned_loop=unsigned_loop)
    thinks = thinking.is_anthropic or (rules.always_thinking_restricts and caps.reasoning == "always")
    return Plan(thinking, thinks, output_limit(limit, thinking, caps, needed=rules.needs_limit))


def decide(
    parameters: Parameters, caps: Caps, rules: UpstreamRules, drop: Drop, *, planned: Plan | None = None
) -> Settings:
    """Return the settings for a request.

    `planned` is the result of `plan`, which a conversion calls first if its tools depend on it.
    """
    if planned is None:
        planned = plan(parameters, caps, rules, drop)
    sampling = supported_sampling(
        parameters.sampling,
        caps,
        drop,
        thinks=planned.thinks,
        at=parameters.sampling_at,
        max_temperature=min(parameters.max_temperature, rules.max_temperature),
    )
    stops = _supported_stops(parameters.stops, caps, drop, parameters.stops_at)
    return Settings(planned.thinking, planned.limit, sampling, stops)


def _raise_limit(limit: int | None, caps: Caps, drop: Drop, at: str) -> int | None:
    """Return the client's limit of the output, or the smallest that the model takes. `at` is its JSON pointer."""
    if limit is None or limit >= caps.min_max_tokens:
        return limit
    drop(at)
    return caps.min_max_tokens


def output_limit(limit: int | None, thinking: ThinkingPlan, caps: Caps, *, needed: bool) -> int | None:
    """Return the limit of the output to send, or None to send none. `needed` is true if a request must set one.

    Thinking counts into the limit. A limit that the client leaves open has the whole usual room for the answer beside
    the thinking.
    """
    if limit is not None:
        return limit
    if needed or caps.needs_max_tokens or thinking.tokens:
        return max(thinking.tokens + caps.max_output, caps.min_max_tokens)
    return None


def supported_sampling(
    sampling: Mapping[str, float],
    caps: Caps,
    drop: Drop,
    *,
    thinks: bool,
    at: Mapping[str, str] = _SAMPLING_AT,
    max_temperature: float = 1,
) -> dict[str, float]:
    """Return temperature, top_p and top_k as far as the model takes them.

    `thinks` is true if Anthropic's thinking stands beside them. `at` maps each name to its JSON pointer. A temperature
    above `max_temperature` is lowered to it.
    """
    supported = dict(sampling)

    def take_out(*names: str) -> None:
        for name in names:
            if (value := supported.pop(name, None)) is not None and value != _NEUTRAL.get(name):
                drop(at[name])

    if caps.sampling == "none":
        take_out(*SAMPLING)
    if thinks:
        take_out("temperature", "top_k")
        if supported.get("top_p", 1) < _MIN_TOP_P:
            take_out("top_p")
    if caps.sampling == "one" and "temperature" in supported:
        take_out("top_p")  # litellm#15070: both together are refused
    if supported.get("temperature", 0) > max_temperature:
        supported["temperature"] = max_temperature
        drop(at["temperature"])
    return supported


def _supported_stops(stops: Sequence[str], caps: Caps, drop: Drop, at: str) -> list[str]:
    """Return the stop sequences that the model takes. `at` is the JSON pointer of all of them."""
    supported = [stop for stop in stops if caps.blank_stops or stop.strip()] if caps.stop_sequences else []
    if len(supported) < len(stops):
        drop(at)
    return supported
