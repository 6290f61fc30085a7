"""Decisions on a request's parameters in Converse's words: limits, sampling, stop sequences, how a family thinks.

Shared by the conversions that end in Converse; what is asked for is decided in `shared/settings.py`. The forms of
thinking come from recorded traffic and LiteLLM's per-model data (agentgateway#3442: one family's form sent to another
is a 400).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.settings import ThinkingPlan

Block = dict[str, Any]


def thinking(thought: ThinkingPlan) -> Block:
    """Fields of `additionalModelRequestFields`."""
    effort, shown = thought.effort, {"display": thought.display} if thought.display else {}
    forms: dict[str, Block] = {
        "": {},
        "budget": {"thinking": {"type": "enabled", "budget_tokens": thought.tokens, **shown}},
        "adaptive": {
            "thinking": {"type": "adaptive", **shown},
            **({"output_config": {"effort": effort}} if effort else {}),
        },
        "reasoning_effort": {"reasoning_effort": effort},
        "reasoning.effort": {"reasoning": {"effort": effort}},
        "reasoning_config": {"reasoning_config": effort},
        "nova": {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}},
    }
    return forms[thought.form]


def inference(
    limit: int | None, sampled: Mapping[str, float], stops: Sequence[str], caps: Caps, drop: Drop
) -> tuple[Block, Block]:
    """`inferenceConfig`, and what of `additionalModelRequestFields` belongs to it."""
    found = {
        "maxTokens": limit,
        "temperature": sampled.get("temperature"),
        "topP": sampled.get("top_p"),
        "stopSequences": list(stops) or None,
    }
    config = {name: value for name, value in found.items() if value is not None}
    top_k = sampled.get("top_k")
    if top_k is None:
        return config, {}
    forms: dict[str, Block] = {
        "field": {"top_k": top_k},
        "inference_config": {"inferenceConfig": {"topK": top_k}},
    }
    if caps.top_k not in forms:
        drop("/top_k")
    return config, forms.get(caps.top_k, {})


def response_fields(stops: Sequence[str], caps: Caps, *, stream: bool) -> Block:
    """`additionalModelResponseFieldPaths`, where a conversion has something to ask for.

    Which stop sequence was met stands nowhere else in a reply (litellm#40064). The paths lead into Anthropic's own
    reply, or into its `message_delta`: /delta/stop_sequence is what Vercel's AI SDK and opencode ask for in streams.
    """
    if not (stops and caps.stop_sequence_named):
        return {}
    return {"additionalModelResponseFieldPaths": ["/delta/stop_sequence" if stream else "/stop_sequence"]}
