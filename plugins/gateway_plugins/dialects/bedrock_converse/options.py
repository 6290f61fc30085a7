"""Writers of parameters for a Converse request: limit, sampling, stop sequences, a model family's form of thinking.

Every conversion that ends in Converse uses them. Which settings to ask for is decided in `shared/settings.py`. The
forms of thinking come from recorded traffic and LiteLLM's per-model data (agentgateway#3442: the form of one family
sent to another is a 400).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.settings import Settings, UpstreamRules
from gateway_plugins.shared.thinking import ThinkingPlan

Block = dict[str, Any]

RULES: Final = UpstreamRules()


def thinking(plan: ThinkingPlan) -> Block:
    """Return the members of `additionalModelRequestFields` that ask for thinking."""
    effort, display = plan.effort, {"display": plan.display} if plan.display else {}
    forms: dict[str, Block] = {
        "": {},
        "budget": {"thinking": {"type": "enabled", "budget_tokens": plan.tokens, **display}},
        "adaptive": {
            "thinking": {"type": "adaptive", **display},
            **({"output_config": {"effort": effort}} if effort else {}),
        },
        "reasoning_effort": {"reasoning_effort": effort},
        "reasoning.effort": {"reasoning": {"effort": effort}},
        "reasoning_config": {"reasoning_config": effort},
        "nova": {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}},
    }
    return forms[plan.form]


def inference(settings: Settings, caps: Caps, drop: Drop) -> tuple[Block, Block]:
    """Return `inferenceConfig`, and the members of `additionalModelRequestFields` that belong to it."""
    members = {
        "maxTokens": settings.limit,
        "temperature": settings.sampling.get("temperature"),
        "topP": settings.sampling.get("top_p"),
        "stopSequences": list(settings.stops) or None,
    }
    config = {name: value for name, value in members.items() if value is not None}
    top_k = settings.sampling.get("top_k")
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
    """Return `additionalModelResponseFieldPaths` with the stop sequence that was met, or {} if none can be.

    No other member of a reply names it (litellm#40064). The path leads into Anthropic's own reply, or into its
    `message_delta`: /delta/stop_sequence is the path that Vercel's AI SDK and opencode send for streams.
    """
    if not (stops and caps.stop_sequence_named):
        return {}
    return {"additionalModelResponseFieldPaths": ["/delta/stop_sequence" if stream else "/stop_sequence"]}
