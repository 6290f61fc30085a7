"""The parameters in a client's request, and the settings that are sent to the provider. All conversions use them.

- The reader of the client's dialect creates `Parameters`, with the JSON pointers of the client's request.
- `decide` turns the parameters into `Settings` that the model and the provider's dialect support. Because all
  conversions use `decide`, they all report the same parameters as dropped.
- `plan` decides only on thinking and the output limit. Some conversions need both before they can write the tools.
  These conversions call `plan` first, and pass the result to `decide`.
- The provider's dialect writes the settings into the body.

No field of a body is read or written here. Thinking is in `thinking.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared import numbers
from gateway_plugins.shared.thinking import ANTHROPIC_FORMS, ThinkingPlan, ThinkingRequest, plan_thinking

_SAMPLING_AT: Final[Mapping[str, str]] = {name: f"/{name}" for name in numbers.SAMPLING}
_MIN_TOP_P: Final = 0.95
"""Minimum of top_p that Anthropic accepts together with thinking."""
_NEUTRAL: Final[Mapping[str, float]] = {"temperature": 1, "top_p": 1}
"""Default values of sampling parameters. Leaving out a parameter with its default has no effect."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a request as the client sent them. All JSON pointers refer to the client's request."""

    thinking: ThinkingRequest
    limit: int | None
    """Maximum number of output tokens. It is None if the client sets no limit."""
    limit_at: str
    sampling: Mapping[str, float]
    """Sampling parameters (names in `numbers.SAMPLING`) that the client sets."""
    stops: Sequence[str]
    """Stop sequences."""
    stops_at: str
    sampling_at: Mapping[str, str] = field(default_factory=lambda: _SAMPLING_AT)
    """JSON pointers of the client's fields for the sampling parameters. The keys are the names in `numbers.SAMPLING`.
    """
    max_temperature: float = 1
    """Maximum temperature in the client's dialect. It is 2 in OpenAI's dialects."""


@dataclass(frozen=True, slots=True)
class UpstreamRules:
    """Rules of a provider's dialect for parameters, whatever the model is."""

    needs_limit: bool = False
    """True if every request must set an output limit."""
    max_temperature: float = 1
    """Maximum temperature in the provider's dialect. It is 2 in OpenAI's dialects."""
    always_thinking_restricts: bool = False
    """True if a model that always thinks (`Caps.reasoning` is "always") refuses most sampling parameters in this
    dialect."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The thinking and the output limit to send.

    Both are decided before the other settings, because the fields for tools depend on them.
    """

    thinking: ThinkingPlan
    thinks: bool
    """True if the model thinks in a way that makes it refuse most sampling parameters. Some models then also refuse a
    forced tool choice.

    This is so in two cases:

    - The model thinks, and its thinking is set with Anthropic's field `thinking`.
    - The model always thinks, and `UpstreamRules.always_thinking_restricts` is true."""
    limit: int | None
    """The output limit for the provider, in tokens. If it is None, no limit is sent."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The thinking, output limit, sampling and stop sequences to send to the provider."""

    thinking: ThinkingPlan
    limit: int | None
    """The output limit for the provider, in tokens. If it is None, no limit is sent."""
    sampling: Mapping[str, float]
    stops: Sequence[str]
    top_k_at: str
    """JSON pointer of the client's `top_k`, to report it if the provider's dialect has no such field."""


def plan(parameters: Parameters, caps: Caps, rules: UpstreamRules, drop: Drop, *, unsigned_loop: bool = False) -> Plan:
    """Return the thinking and the output limit for a request.

    `unsigned_loop` is true if the client sent back a turn with tool calls but without thinking (`plan_thinking`).
    """
    limit = _raise_limit(parameters.limit, caps, drop, parameters.limit_at)
    thinking = plan_thinking(parameters.thinking, limit, caps, drop, unsigned_loop=unsigned_loop)
    by_itself = caps.thinks_by_default and caps.reasoning in ANTHROPIC_FORMS and not thinking.off
    always = rules.always_thinking_restricts and caps.reasoning == "always"
    thinks = thinking.is_anthropic or by_itself or always
    return Plan(thinking, thinks, output_limit(limit, thinking, caps, needed=rules.needs_limit))


def decide(
    parameters: Parameters, caps: Caps, rules: UpstreamRules, drop: Drop, *, planned: Plan | None = None
) -> Settings:
    """Return the thinking, output limit, sampling and stop sequences to send to the provider.

    `planned` is the result of `plan`. If it is None, `plan` is called here.
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
    stops = supported_stops(parameters.stops, caps, drop, parameters.stops_at)
    return Settings(planned.thinking, planned.limit, sampling, stops, parameters.sampling_at["top_k"])


def caps_beside(caps: Caps, planned: Plan) -> Caps:
    """Return the model's capabilities beside the planned thinking. Some models cannot be forced to call a tool while
    they think.
    """
    return replace(caps, forced_tool_choice=can_force(caps, thinks=planned.thinks))


def can_force(caps: Caps, *, thinks: bool) -> bool:
    """Return whether a request may force a tool call. `thinks` is true if the model thinks (`Plan.thinks`)."""
    return caps.forced_tool_choice and (caps.forced_tool_choice_with_thinking or not thinks)


def _raise_limit(limit: int | None, caps: Caps, drop: Drop, at: str) -> int | None:
    """Return the client's output limit, or the model's minimum if the limit is lower. Return None for no limit.

    A limit that is too low is reported with `drop`. `at` is the limit's JSON pointer in the client's request.
    """
    if limit is None or limit >= caps.min_max_tokens:
        return limit
    drop(at)
    return caps.min_max_tokens


def output_limit(limit: int | None, thinking: ThinkingPlan, caps: Caps, *, needed: bool) -> int | None:
    """Return the output limit to send, including the tokens of thinking, or None to send no limit.

    The client's limit is sent unchanged. If the client sets no limit, the gateway sets one in three cases: the dialect
    requires a limit (`needed`), the model requires a limit, or there is a thinking budget. This limit is the thinking
    budget plus the model's default output limit.
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
    """Return temperature, top_p and top_k, without the parameters that the model refuses.

    Refused parameters are reported as dropped. A temperature above `max_temperature` is replaced by `max_temperature`
    and reported too. `thinks` is true if the model thinks (`Plan.thinks`). `at` maps each name to its JSON pointer.
    """
    supported = dict(sampling)

    def take_out(*names: str) -> None:
        for name in names:
            if (value := supported.pop(name, None)) is not None and value != _NEUTRAL.get(name):
                drop(at[name])

    if caps.sampling == "none":
        take_out(*numbers.SAMPLING)
    if thinks:
        take_out("temperature", "top_k")
        if supported.get("top_p", 1) < _MIN_TOP_P:
            take_out("top_p")
    if caps.sampling == "one" and "temperature" in supported:
        take_out("top_p")  # litellm#15070: top_p and temperature together are refused
    if supported.get("temperature", 0) > max_temperature:
        supported["temperature"] = max_temperature
        drop(at["temperature"])
    return supported


def supported_stops(stops: Sequence[str], caps: Caps, drop: Drop, at: str) -> list[str]:
    """Return the stop sequences that the model accepts. `at` is the JSON pointer of the client's stop sequences."""
    supported = [stop for stop in stops if caps.blank_stops or stop.strip()] if caps.stop_sequences else []
    if len(supported) < len(stops):
        drop(at)
    return supported
