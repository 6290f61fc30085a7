"""What the readers of Chat Completions and of Responses have in common: how values are checked, and what says nothing.

Every check names the field as the client wrote it. What a member is called in either dialect belongs to their own
readers, and the values that come of it are in `values.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.openai.values import Part, Tool, ToolChoice, Tools
from gateway_plugins.shared.fields import escaped, is_deep, member, param
from gateway_plugins.shared.settings import EFFORTS

_TIERS: Final = ("flex", "priority")
_MOST: Final[Mapping[str, float]] = {"top_p": 1}
"""Largest values; a temperature above what a model takes is the conversion's to lower."""
MODES: Final[Mapping[str, str]] = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
"""`tool_choice` in words."""


def text_of(value: Any, at: str) -> str:
    """A member that must be a string; null reads as ""."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(f"{param(at)} must be a string", param(at))
    return value


def list_of(value: Any, at: str) -> list[Any]:
    """A member that must be a list; null reads as none."""
    if value is not None and not isinstance(value, list):
        raise invalid(f"{param(at)} must be a list", param(at))
    return value or []


def object_of(value: Any, at: str) -> dict[str, Any]:
    """A member that must be an object; null reads as {}."""
    if value is not None and not isinstance(value, dict):
        raise invalid(f"{param(at)} must be an object", param(at))
    return value or {}


def flag_of(value: Any, at: str) -> bool | None:
    """A member that must be true or false; None when nothing is said."""
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{param(at)} must be true or false", param(at))
    return value


def refuse_files(parts: Iterable[Part], role: str) -> None:
    """A 400 for a file in a message of a role that has texts only."""
    for part in parts:
        if part.media is not None:
            raise invalid(f"{param(part.at)}: a message of role {role} holds text only", param(part.at))


def arguments(text: Any) -> dict[str, Any]:
    """A tool's arguments as the object that providers demand of a replayed call.

    "" and "{}" in quotes are objects written badly (litellm#18414); text that is no object at all is kept under
    `rawInvalidInput`, so that the model sees what it wrote. Empty member names are refused upstream (pi#7782).
    """
    value = text
    for _ in range(2):  # some clients encode the JSON twice
        if isinstance(value, str):
            try:
                value = orjson.loads(value) if value.strip() else {}
            except orjson.JSONDecodeError:
                break
    if value is None:
        value = {}
    return _named(value) if isinstance(value, dict) and not is_deep(value) else {"rawInvalidInput": text}


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _named(inner) for name, inner in value.items() if name}
    return [_named(inner) for inner in value] if isinstance(value, list) else value


def refuse(top: Members, meaning: Mapping[str, str], neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """A 400 for members that would change the meaning if they were left out; `meaning` says what to do instead."""
    for name, advice in meaning.items():
        if name in top and not _is_neutral(top.decode(name), neutral.get(name, ())):
            raise invalid(f"{name}: {advice}", name)


def leftovers(top: Members, carried: Collection[str], neutral: Mapping[str, tuple[Any, ...]], drop: Drop) -> None:
    """Report every member that is not carried and that asked for something."""
    for name in top:
        if name not in carried and not _is_neutral(top.decode(name), neutral.get(name, ())):
            drop(f"/{escaped(name)}")


def _is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    return value is None or value in neutral


def inner_leftovers(raw: Mapping[str, Any], carried: Collection[str], at: str, drop: Drop) -> None:
    """The same for an object inside of the body: null, "", [] and false ask for nothing."""
    for name, value in raw.items():
        if name not in carried and value not in (None, "", [], False):
            drop(f"{at}/{escaped(name)}")


def limit(top: Members, name: str) -> int | None:
    """An output limit in tokens, or None."""
    value = member(top, name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid(f"{name} must be a whole number of at least 1", name)
    return value


def numbers(top: Members, names: Collection[str]) -> dict[str, float]:
    """Those of the numeric parameters that are given."""
    found = {}
    for name in names:
        value = member(top, name)
        if value is None:
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
            raise invalid(f"{name} must be a number of at least 0", name)
        if value > _MOST.get(name, value):
            raise invalid(f"{name} must be a number from 0 to {_MOST[name]}", name)
        found[name] = value
    return found


def effort(value: Any, field: str) -> str:
    """An effort of thinking, or "" when nothing is said."""
    if value is None:
        return ""
    if value not in EFFORTS:
        raise invalid(f'{field}: "{value}" is not one of {", ".join(EFFORTS)}', field)
    return str(value)


def service_tier(top: Members) -> str:
    """The tier to ask for; "" for none, which is what `auto` means (bifrost#7266), and what `default` gets unasked."""
    tier = member(top, "service_tier")
    if tier in (None, "auto", "default"):
        return ""
    if tier not in _TIERS:
        raise invalid(f'service_tier: "{tier}" is not one of auto, default, {", ".join(_TIERS)}', "service_tier")
    return str(tier)


def offer(offered: list[Tool], choice: ToolChoice, top: Members, field: str = "tool_choice") -> Tools:
    """Raises `Refused` for a demand that no tool can meet; `field` is where the client made it."""
    if choice.allowed is not None:
        offered = [tool for tool in offered if tool.name in choice.allowed]
    if choice.mode in {"any", "tool"} and not offered:
        raise invalid(f"{field}: a tool is demanded but none is offered; send tools", field)
    if choice.mode == "tool" and choice.name not in {tool.name for tool in offered}:
        raise invalid(f'{field}: no tool is named "{choice.name}"', field)
    parallel = flag_of(member(top, "parallel_tool_calls"), "/parallel_tool_calls") is not False
    return Tools(offered, choice.mode, choice.name, f"/{field}", parallel)
