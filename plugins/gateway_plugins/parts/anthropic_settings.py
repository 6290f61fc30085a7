"""Thinking, sampling and the answer's format, as a Messages request takes them from a model's capabilities.

What the client wished comes in as plain values, with the JSON pointer of the field that said it: several dialects end
here. Turns, tools and cache marks are in `to_anthropic_messages.py`. Sources: Anthropic's API reference (Messages,
Extended thinking, Structured outputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gateway.flag import Caps, Drop
from gateway_plugins.parts import read_openai_options as options

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was said about thinking. `effort` is one of `read_openai_options.EFFORTS`, "" if none was named."""

    at: str = ""
    effort: str = ""
    budget: int | None = None
    display: str = ""
    on: bool = False
    """Thinking is wanted; not so with an effort of `none`."""


def thinking(wish: Wish, caps: Caps, limit: int, drop: Drop, *, unsigned_loop: bool) -> Body:
    """The members `thinking` and `output_config`.

    `unsigned_loop`: the turn that called the tools came back without its thinking. A model with a budget refuses to
    think on then ("Expected thinking or redacted_thinking", RooCode#11238), so it answers without; adaptive ones go on.
    """
    if caps.reasoning == "adaptive":
        return _adaptive(wish, caps, drop)
    if not wish.on:
        if wish.at and caps.reasoning == "always":
            drop(wish.at)
        return {}
    tokens = _budget(wish, limit) if caps.reasoning == "budget" and not unsigned_loop else 0
    if not tokens:
        drop(wish.at)
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": tokens, **_display(wish, caps)}}


def _budget(wish: Wish, limit: int) -> int:
    """A budget that the client named is only kept below the limit; one that an effort stands for leaves room."""
    if wish.budget is not None:
        tokens = min(max(wish.budget, options.MIN_BUDGET), limit - 1)
        return tokens if tokens >= options.MIN_BUDGET else 0
    return options.fitted(options.budget(wish.effort or "medium"), limit)


def _adaptive(wish: Wish, caps: Caps, drop: Drop) -> Body:
    if not wish.at:
        return {}
    if not wish.on:
        return {"thinking": {"type": "disabled"}}
    if wish.budget is not None:  # the model chooses its budget itself, and refuses one from us
        drop(f"{wish.at}/budget_tokens")
    body: Body = {"thinking": {"type": "adaptive", **_display(wish, caps)}}
    if wish.effort and caps.efforts:
        taken = options.nearest_effort(wish.effort, caps.efforts)
        body["output_config"] = {"effort": taken}
        if taken != wish.effort:
            drop(wish.at)
    return body


def _display(wish: Wish, caps: Caps) -> Body:
    """Newer models leave the text out unless it is asked for (agentgateway#2725)."""
    display = wish.display or ("summarized" if caps.thinking_display else "")
    return {"display": display} if display else {}


def thinks(body: Body, caps: Caps) -> bool:
    return caps.reasoning == "always" or body.get("thinking", {}).get("type") in {"enabled", "adaptive"}


def sampling(wished: dict[str, float], caps: Caps, drop: Drop, *, thinks: bool) -> Body:
    """temperature, top_p and top_k. `wished` has the names of the client's fields, which are the same."""
    taken = dict(wished)
    if caps.sampling == "none":
        _take_out(taken, drop, "temperature", "top_p", "top_k")
    if thinks:
        if taken.get("temperature") == 1:  # what thinking runs at anyway
            del taken["temperature"]
        _take_out(taken, drop, "temperature", "top_k")
        if taken.get("top_p", 1) < 0.95:
            _take_out(taken, drop, "top_p")
    if caps.sampling == "one" and "temperature" in taken:
        _take_out(taken, drop, "top_p")  # litellm#15070: both together are refused
    if taken.get("temperature", 0) > 1:  # OpenAI's scale ends at 2, this one at 1
        taken["temperature"] = 1
        drop("/temperature")
    return taken


def _take_out(taken: Body, drop: Drop, *names: str) -> None:
    for name in names:
        if name in taken:
            del taken[name]
            drop(f"/{name}")


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
