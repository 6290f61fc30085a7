"""Writers of the parameters of a Converse request: output limit, sampling, stop sequences, thinking.

Every translation to Converse uses these writers. `shared/settings.py` decides which settings to send. Each model family
has its own field for thinking, and answers 400 to the field of another family (agentgateway#3442). The fields are known
from recorded traffic and LiteLLM's per-model data.
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
    """Return the fields of `additionalModelRequestFields` that request thinking or switch it off."""
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
    off: dict[str, Block] = {
        "budget": {"thinking": {"type": plan.off}},
        "adaptive": {"thinking": {"type": plan.off}},
        "nova": {"reasoningConfig": {"type": "disabled"}},
    }
    return (off if plan.off else forms).get(plan.form, {})


def inference(settings: Settings, caps: Caps, drop: Drop) -> tuple[Block, Block]:
    """Return two objects: `inferenceConfig`, and the fields of `additionalModelRequestFields` that set top_k."""
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
        drop(settings.top_k_at)
    return config, forms.get(caps.top_k, {})


def response_fields(stops: Sequence[str], caps: Caps, *, stream: bool) -> Block:
    """Return `additionalModelResponseFieldPaths` with the path of the field `stop_sequence`.

    Without this path, a reply does not name the stop sequence that ended it (litellm#40064). Vercel's AI SDK and
    opencode send the same paths. Return {} if the request has no stop sequences, or if the model never names them.
    """
    if not (stops and caps.stop_sequence_named):
        return {}
    return {"additionalModelResponseFieldPaths": ["/delta/stop_sequence" if stream else "/stop_sequence"]}
