"""Thinking and the answer's format in the words of a Messages request.

What is asked for is decided in `shared/settings.py`. Turns, tools and cache marks are in `demand.py`.
Which part of JSON Schema a format may have is in `shared/schemas.py`. Sources: Anthropic's API reference (Messages,
Extended thinking, Structured outputs).
"""

from __future__ import annotations

from typing import Any

from gateway_plugins.shared.settings import ThinkingPlan

Body = dict[str, Any]


def thinking(thought: ThinkingPlan) -> Body:
    """The members `thinking` and `output_config`."""
    if not thought.is_anthropic:
        return {}
    shown = {"display": thought.display} if thought.display else {}
    if thought.form == "budget":
        return {"thinking": {"type": "enabled", "budget_tokens": thought.tokens, **shown}}
    body: Body = {"thinking": {"type": "adaptive", **shown}}
    return body | ({"output_config": {"effort": thought.effort}} if thought.effort else {})


def merge(*bodies: Body) -> Body:
    """Members of several decisions; each may have something to say in `output_config`, or need a beta."""
    merge: Body = {}
    for body in bodies:
        config = {**merge.get("output_config", {}), **body.get("output_config", {})}
        betas = list(dict.fromkeys([*merge.get("anthropic_beta", []), *body.get("anthropic_beta", [])]))
        both = {"output_config": config, "anthropic_beta": betas}
        merge |= body | {name: value for name, value in both.items() if value}
    return merge
