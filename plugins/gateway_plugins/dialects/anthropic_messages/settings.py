"""Writes the fields for thinking in a Messages request. `merge` joins the fields that several writers return.

`shared/thinking.py` decides which thinking to request. Messages and cache breakpoints are in `demand.py`, tools and the
answer's format in `tools.py`. Sources: Anthropic's API reference (Messages, Extended thinking, Structured outputs).
"""

from __future__ import annotations

from typing import Any, Final

from gateway_plugins.shared.settings import UpstreamRules
from gateway_plugins.shared.thinking import ThinkingPlan

Body = dict[str, Any]

RULES: Final = UpstreamRules(needs_limit=True, always_thinking_restricts=True)


def thinking(plan: ThinkingPlan) -> Body:
    """Return the fields `thinking` and `output_config`, or {} if the plan does not use Anthropic's field `thinking`."""
    if plan.off:
        return {"thinking": {"type": plan.off}}
    if not plan.is_anthropic:
        return {}
    display = {"display": plan.display} if plan.display else {}
    if plan.form == "budget":
        return {"thinking": {"type": "enabled", "budget_tokens": plan.tokens, **display}}
    body: Body = {"thinking": {"type": "adaptive", **display}}
    return body | ({"output_config": {"effort": plan.effort}} if plan.effort else {})


def merge(*bodies: Body) -> Body:
    """Return one body with the fields of all bodies.

    The values of `output_config` and of `anthropic_beta` are joined. For any other field, the last body wins.
    """
    merged: Body = {}
    for body in bodies:
        config = {**merged.get("output_config", {}), **body.get("output_config", {})}
        betas = list(dict.fromkeys([*merged.get("anthropic_beta", []), *body.get("anthropic_beta", [])]))
        both = {"output_config": config, "anthropic_beta": betas}
        merged |= body | {name: value for name, value in both.items() if value}
    return merged
