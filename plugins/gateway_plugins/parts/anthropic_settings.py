"""Thinking and the answer's format in the words of a Messages request.

What is asked for is decided in `settings.py`. Turns, tools and cache marks are in `to_anthropic_messages.py`.
Sources: Anthropic's API reference (Messages, Extended thinking, Structured outputs).
"""

from __future__ import annotations

from typing import Any, Final

from gateway_plugins.parts.settings import Thought

Body = dict[str, Any]


def thinking(thought: Thought) -> Body:
    """The members `thinking` and `output_config`."""
    if not thought.is_claudes:
        return {}
    shown = {"display": thought.display} if thought.display else {}
    if thought.form == "budget":
        return {"thinking": {"type": "enabled", "budget_tokens": thought.tokens, **shown}}
    body: Body = {"thinking": {"type": "adaptive", **shown}}
    return body | ({"output_config": {"effort": thought.effort}} if thought.effort else {})


def merged(*bodies: Body) -> Body:
    """Members of several decisions; each may have something to say in `output_config`, or need a beta."""
    merged: Body = {}
    for body in bodies:
        config = {**merged.get("output_config", {}), **body.get("output_config", {})}
        betas = list(dict.fromkeys([*merged.get("anthropic_beta", []), *body.get("anthropic_beta", [])]))
        both = {"output_config": config, "anthropic_beta": betas}
        merged |= body | {name: value for name, value in both.items() if value}
    return merged


_NOT_TAKEN: Final = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "maxItems", "uniqueItems", "minProperties", "maxProperties",
)  # fmt: skip
_NAMED_SCHEMAS: Final = ("properties", "$defs", "definitions")
_SCHEMA_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_LOOKAROUND: Final = ("(?=", "(?!", "(?<=", "(?<!")


def closed_schema(schema: Any) -> Any:
    """A schema for structured output: its objects are closed (future-agi#412), and what is refused in it stands in the
    description, where the model still reads it.
    """
    if not isinstance(schema, dict):
        return schema
    closed: Body = {}
    told = []
    for name, value in schema.items():
        if name in _NAMED_SCHEMAS and isinstance(value, dict):
            closed[name] = {key: closed_schema(inner) for key, inner in value.items()}
        elif name in _SCHEMA_LISTS and isinstance(value, list):
            # oneOf is refused; of choices that exclude each other anyOf says the same
            closed["anyOf" if name == "oneOf" else name] = [closed_schema(inner) for inner in value]
        elif name == "items":
            closed[name] = closed_schema(value)
        elif _is_refused(name, value):
            told.append(f"{name}: {value}")
        elif name != "$schema":
            closed[name] = value
    if "object" in _types(closed) or "properties" in closed:
        closed["additionalProperties"] = False
    if told:
        own = closed.get("description")
        closed["description"] = " ".join([*([own] if isinstance(own, str) else []), f"({', '.join(told)})"]).strip()
    return closed


def _is_refused(name: str, value: Any) -> bool:
    if name == "minItems":
        return value not in (0, 1)
    if name == "additionalProperties":  # a schema for members of any name: a closed object has none
        return isinstance(value, dict)
    return name in _NOT_TAKEN or (name == "pattern" and any(mark in str(value) for mark in _LOOKAROUND))


def _types(schema: Body) -> list[Any]:
    kind = schema.get("type")
    return kind if isinstance(kind, list) else [kind]
