"""Readers of a Chat Completions request's parameters: everything but messages and tools.

The second half of `read_openai_chat.py`; the same rules hold. `leftovers` is what keeps a road honest: every member
that it did not name is reported as dropped.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import invalid
from gateway.flag import Drop, Members
from gateway_plugins.parts.fields import escaped, member
from gateway_plugins.parts.settings import EFFORTS, SAMPLING, Wish, own_thinking

_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    # values that ask for nothing, so that leaving them out loses nothing
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "metadata": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "store": (False,),
    "verbosity": ("medium",),
    "parallel_tool_calls": (True,),
    "service_tier": ("auto", "default"),
    "tools": ([],),
    "functions": ([],),
}

_MEANING: Final = {
    # what cannot be left out without changing what the client gets, and what to do instead
    "n": "only one choice can be made: send n=1, or the request several times",
    "logprobs": "log probabilities are not available from this model: leave it out",
    "top_logprobs": "log probabilities are not available from this model: leave it out",
    "audio": "this model answers in text only: leave it out",
    "modalities": 'this model answers in text only: send ["text"]',
    "web_search_options": "no search runs on the server's side for this model: leave it out",
}


_TIERS: Final = ("flex", "priority")


@dataclass(frozen=True, slots=True)
class Format:
    """`response_format`: kind is text, json_object or json_schema; the rest belongs to the last."""

    kind: str = "text"
    name: str = ""
    description: str = ""
    schema: Any = None


def refuse_unservable(top: Members) -> None:
    """A 400 for what would change the meaning if it were left out."""
    for name, advice in _MEANING.items():
        if name in top and not _is_neutral(name, top.decode(name)):
            raise invalid(f"{name}: {advice}", name)


def leftovers(top: Members, carried: Collection[str], drop: Drop) -> None:
    """Report every member that the road does not carry and that asked for something."""
    for name in top:
        if name not in carried and not _is_neutral(name, top.decode(name)):
            drop(f"/{escaped(name)}")


def _is_neutral(name: str, value: Any) -> bool:
    return value is None or value in _NEUTRAL.get(name, ())


def stream_options(top: Members) -> dict[str, Any]:
    """`stream_options`, {} when nothing is said."""
    options = member(top, "stream_options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise invalid('stream_options must be an object, such as {"include_usage": true}', "stream_options")
    return options


def include_usage(top: Members, drop: Drop) -> bool:
    """The client asked for the chunk with the usage."""
    options = stream_options(top)
    for name, value in options.items():
        if name != "include_usage" and value:
            drop(f"/stream_options/{escaped(name)}")
    return options.get("include_usage") is True


def limit(top: Members) -> int | None:
    """The output limit; the newer name wins."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = member(top, name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise invalid(f"{name} must be a whole number of at least 1", name)
        return value
    return None


def number(top: Members, name: str) -> float | None:
    """A numeric parameter, or None."""
    value = member(top, name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        raise invalid(f"{name} must be a number of at least 0", name)
    return value


def stops(top: Members) -> list[str]:
    """`stop` as a list. Empty ones are left out: they stop nothing, and are refused upstream."""
    value = member(top, "stop")
    found = [value] if isinstance(value, str) else value or []
    if not isinstance(found, list) or not all(isinstance(stop, str) for stop in found):
        raise invalid("stop must be a string or a list of strings", "stop")
    return [stop for stop in found if stop]


def effort(top: Members) -> str:
    """`reasoning_effort`, or "" when nothing is said."""
    value = member(top, "reasoning_effort")
    if value is None:
        return ""
    if value not in EFFORTS:
        raise invalid(f'reasoning_effort: "{value}" is not one of {", ".join(EFFORTS)}', "reasoning_effort")
    return str(value)


def wish(top: Members) -> Wish:
    """What is said of thinking."""
    return Wish(effort(top), own_thinking(member(top, "thinking")))


def sampling(top: Members) -> dict[str, float]:
    """temperature, top_p and top_k, as far as they are given."""
    return {name: value for name in SAMPLING if (value := number(top, name)) is not None}


def service_tier(top: Members) -> str:
    """The tier to ask for; "" for none, which is what `auto` means (bifrost#7266), and what `default` gets unasked."""
    tier = member(top, "service_tier")
    if tier in (None, "auto", "default"):
        return ""
    if tier not in _TIERS:
        raise invalid(f'service_tier: "{tier}" is not one of auto, default, {", ".join(_TIERS)}', "service_tier")
    return str(tier)


def response_format(top: Members) -> Format:
    value = member(top, "response_format")
    if value is None:
        return Format()
    kind = str(value.get("type")) if isinstance(value, dict) else ""
    if kind in {"text", "json_object"}:
        return Format(kind)
    inner = value.get("json_schema") if kind == "json_schema" else None
    if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
        field = "response_format"
        raise invalid(f"{field} must be of type text, json_object, or json_schema with a json_schema.schema", field)
    return Format("json_schema", str(inner.get("name") or ""), str(inner.get("description") or ""), inner["schema"])
