"""Parameters as Converse takes them: limits, sampling, stop sequences, and how each family is asked to think.

Shared by the roads that end in Converse. The forms of thinking come from recorded traffic and LiteLLM's per-model data
(agentgateway#3442: one family's form sent to another is a 400); which one a model takes is in its capabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gateway.flag import Caps, Drop
from gateway_plugins.parts.read_openai_options import budget, effort_of, fitted, nearest_effort

Block = dict[str, Any]

_CLAUDE: Final = frozenset({"budget", "adaptive"})
"""Forms of Anthropic's `thinking`."""
_MIN_TOP_P: Final = 0.95
"""Anthropic takes top_p beside thinking from here on."""


@dataclass(slots=True)
class Sampling:
    """What the client asks for; None where it says nothing."""

    limit: int | None
    temperature: float | None
    top_p: float | None
    top_k: float | None
    stops: list[str]
    stop_path: str = "/stop"


@dataclass(frozen=True, slots=True)
class Thought:
    """How much the client wants the model to think, as an effort or in tokens; "" and 0 where it says nothing."""

    effort: str = ""
    tokens: int = 0
    display: str = ""
    path: str = "/reasoning_effort"


def reasoning(wanted: Thought, sampling: Sampling, caps: Caps, drop: Drop) -> Block:
    """Fields of `additionalModelRequestFields`. A thinking budget needs an output limit above it, and may set one."""
    if not wanted.effort and not wanted.tokens:
        return {}
    effort = wanted.effort or effort_of(wanted.tokens)
    if caps.reasoning in {"none", "always"}:
        if (effort == "none") != (caps.reasoning == "none"):
            drop(wanted.path)
        return {}
    if effort == "none" and (caps.reasoning in _CLAUDE or "none" not in caps.efforts):
        return {}  # not asking for it is how it is turned off
    if caps.reasoning == "budget":
        return _budget(wanted.tokens or budget(effort), wanted, sampling, caps, drop)
    nearest = nearest_effort(effort, caps.efforts)
    if nearest != effort and not wanted.tokens:
        drop(wanted.path)
    return _effort(nearest, _shown(wanted, caps), caps.reasoning)


def _budget(tokens: int, wanted: Thought, sampling: Sampling, caps: Caps, drop: Drop) -> Block:
    tokens = fitted(tokens, sampling.limit)
    if not tokens:
        drop(wanted.path)
        return {}
    if sampling.limit is None:
        sampling.limit = tokens + caps.max_output
    return {"thinking": {"type": "enabled", "budget_tokens": tokens, **_shown(wanted, caps)}}


def _shown(wanted: Thought, caps: Caps) -> Block:
    """Newer models leave the text of their thinking out unless asked (agentgateway#2725)."""
    return {"display": wanted.display or "summarized"} if caps.thinking_display else {}


def _effort(effort: str, shown: Block, form: str) -> Block:
    forms: dict[str, Block] = {
        "adaptive": {"thinking": {"type": "adaptive", **shown}, "output_config": {"effort": effort}},
        "reasoning_effort": {"reasoning_effort": effort},
        "reasoning.effort": {"reasoning": {"effort": effort}},
        "reasoning_config": {"reasoning_config": effort},
        "nova": {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}},
    }
    return forms[form]


def inference(asked: Sampling, caps: Caps, drop: Drop, *, thinking: bool) -> tuple[Block, Block]:
    """`inferenceConfig`, and what of `additionalModelRequestFields` belongs to it.

    `thinking` is Anthropic's: it takes neither a temperature but 1 nor a top_k beside it.
    """
    config: Block = {}
    if asked.limit is not None:
        config["maxTokens"] = max(asked.limit, caps.min_max_tokens)
    config |= _temperature_and_top_p(asked, caps, drop, thinking=thinking)
    if asked.stops and caps.stop_sequences:
        config["stopSequences"] = asked.stops
    elif asked.stops:
        drop(asked.stop_path)
    if asked.top_k is None:
        return config, {}
    forms: dict[str, Block] = {
        "field": {"top_k": asked.top_k},
        "inference_config": {"inferenceConfig": {"topK": asked.top_k}},
    }
    if caps.top_k not in forms or caps.sampling == "none" or thinking:
        drop("/top_k")
        return config, {}
    return config, forms[caps.top_k]


def _temperature_and_top_p(asked: Sampling, caps: Caps, drop: Drop, *, thinking: bool) -> Block:
    temperature, top_p = asked.temperature, asked.top_p
    if temperature is not None and (caps.sampling == "none" or (thinking and temperature != 1)):
        drop("/temperature")
        temperature = None
    if temperature is not None and temperature > 1:  # Chat's goes to 2
        drop("/temperature")
        temperature = 1
    refused = caps.sampling == "none" or (thinking and (top_p or 0) < _MIN_TOP_P)
    both = caps.sampling == "one" and temperature is not None  # litellm#15070
    if top_p is not None and (refused or both):
        drop("/top_p")
        top_p = None
    found = {"temperature": temperature, "topP": top_p}
    return {name: value for name, value in found.items() if value is not None}
