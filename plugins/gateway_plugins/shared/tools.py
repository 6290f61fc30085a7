"""Tools as no dialect's own: names and ids that providers take, their way back, and schemas with a plain root.

Shared by the conversions that end in Messages and in Converse, whose rules for names, ids and roots are the same. How a
tool, a call or a result looks in a dialect belongs to its `to_<dialect>.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway_plugins.shared.fields import param

Block = dict[str, Any]

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What Messages and Converse take as a tool's name, and as an id."""
_PROPERTY: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
"""What Claude takes as the name of a property at a tool's root; MCP servers have $top and filter[id] (goose#1804)."""
_ALPHANUMERIC: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_COMBINED: Final = frozenset({"anyOf", "oneOf", "allOf", "$ref", "$schema"})
_MAX_FOLDS: Final = 8
"""Combinations and references inside each other at a schema's root; real ones have one or two."""


class Names:
    """Tool names as providers take them, and back again in replies (bifrost#3788: MCP names over 64 characters)."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._properties: dict[str, str] = {}

    def alias(self, given: str) -> str:
        return given if _NAME.fullmatch(given) else self._aliased(given, self._given)

    def restore(self, made: str) -> str:
        return self._given.get(made, made)

    def plain_schema(self, schema: Block) -> Block:
        """A tool's schema, an object at its root, whose properties there have names that Claude takes."""
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, dict) or all(map(_PROPERTY.fullmatch, properties)):
            return schema
        made = {**schema, "properties": self.plain_input(properties)}
        if isinstance(required, list):
            made["required"] = [self._property(name) if isinstance(name, str) else name for name in required]
        return made

    def plain_input(self, given: Block) -> Block:
        """A call's input, by the names of `plain_schema`."""
        return {self._property(name): value for name, value in given.items()}

    @property
    def renames_properties(self) -> bool:
        return bool(self._properties)

    def restored_input(self, made: Block) -> Block:
        return {self._properties.get(name, name): value for name, value in made.items()}

    def _property(self, given: str) -> str:
        return given if _PROPERTY.fullmatch(given) else self._aliased(given, self._properties)

    def _aliased(self, given: str, known: dict[str, str]) -> str:
        stem = re.sub(r"[^a-zA-Z0-9_-]+", "_", given)[:47]
        made = f"{stem}_{blake2b(given.encode(), digest_size=8).hexdigest()}"
        known[made] = given
        return made


def unused(name: str, taken: Collection[str]) -> str:
    """The name for a tool of ours beside the client's own."""
    while name in taken:
        name += "_"
    return name


def tool_id(given: str, length: int = 0) -> str:
    """An id as the model takes it (fabro#707): any other becomes a hash, so that a call and its result stay a pair.

    `length` is that of models with short alphanumeric ids. Their first characters would not do: in other servers' ids
    they are all the same (`tooluse_`).
    """
    if length:
        if len(given) == length and given.isascii() and given.isalnum():
            return given
        number = int.from_bytes(blake2b(given.encode(), digest_size=16).digest())
        return "".join(_ALPHANUMERIC[number // 36**place % 36] for place in range(length))
    return given if _NAME.fullmatch(given) else "call_" + blake2b(given.encode(), digest_size=12).hexdigest()


@dataclass(slots=True)
class ToolIds:
    """Tool ids of one conversation: valid, unique over it, and the same in every request of it.

    Some servers number their calls anew in each turn (call_0, call_1); an id that comes twice is refused.
    """

    length: int = 0
    _used: set[str] = field(default_factory=set)
    _open: dict[str, list[str]] = field(default_factory=dict)
    """The client's id to those of its calls that wait for a result."""
    _answered: dict[str, Block] = field(default_factory=dict)
    """The client's id to the result that has come for it in this turn."""

    @property
    def waiting(self) -> bool:
        """Calls of the assistant's last turn have no result yet."""
        return any(self._open.values())

    def assistant_turn(self) -> None:
        """An assistant's turn begins: what comes after it answers its calls only."""
        self._open.clear()
        self._answered.clear()

    def call(self, given: str) -> str:
        made, count = tool_id(given, self.length), 1
        while made in self._used:
            count += 1
            made = tool_id(f"{given}#{count}", self.length)
        self._used.add(made)
        self._open.setdefault(given, []).append(made)
        return made

    def answer(self, result: Block, key: str, path: str) -> bool:
        """Give a result, whose member `key` holds the client's id, the id of its call.

        False when another one has answered that call in this turn: it has taken over the content. Raises `Refused` for
        a result without a call; `path` is the JSON pointer of the client's message.
        """
        given = result[key]
        if waiting := self._open.get(given):
            result[key] = waiting.pop(0)
            self._answered[given] = result
            return True
        if (first := self._answered.get(given)) is None:
            name = f"{param(path)}.tool_call_id"
            raise invalid(f'{name}: "{given}" answers no tool call of the assistant message before it', name)
        first["content"] = [*first["content"], *result["content"]]
        return False

    def unanswered(self) -> list[str]:
        """Ids of the calls that nothing has answered when the user's turn is over."""
        return [made for waiting in self._open.values() for made in waiting]


def tool_schema(schema: Any, name: str, at: str) -> Block:
    """A tool's input schema: an object at its root, without anyOf, oneOf, allOf or a reference there (pi#8279).

    What such a root combines is folded into one object: too wide a schema still lets every right call through. `at` is
    the schema's JSON pointer.
    """
    if schema is None:
        return {"type": "object", "properties": {}}
    if not isinstance(schema, dict):
        raise invalid(f'{param(at)}: the schema of tool "{name}" must be an object', param(at))
    folded = _folded(schema, schema, set())
    kind = folded.get("type")
    if kind not in (None, "object", "custom") and not (isinstance(kind, list) and "object" in kind):
        raise invalid(f'{param(at)}: the schema of tool "{name}" has type {kind!r}; it must be "object"', param(at))
    folded["type"] = "object"
    folded["properties"] = folded.get("properties") or {}  # null is refused (bifrost#1720)
    if not isinstance(folded["properties"], dict):
        raise invalid(f'{param(at)}.properties: the schema of tool "{name}" must have an object there', param(at))
    if "required" in folded and not isinstance(folded["required"], list):
        del folded["required"]
    return folded


def _folded(schema: Mapping[str, Any], root: Mapping[str, Any], seen: set[int], depth: int = 0) -> Block:
    """The schema without combinations at its root. What is met again adds nothing: references may lead in circles."""
    own = {key: value for key, value in schema.items() if key not in _COMBINED}
    if depth > _MAX_FOLDS or id(schema) in seen:
        return own
    seen.add(id(schema))
    parts = [(part, True) for part in _objects(schema.get("allOf"))]
    parts += [(part, False) for key in ("anyOf", "oneOf") for part in _objects(schema.get(key))]
    if (target := _referred(schema.get("$ref"), root)) is not None:
        parts.append((target, True))
    for part, demanded in parts:
        _add(own, _folded(part, root, seen, depth + 1), demanded=demanded)
    return own


def _add(own: Block, inner: Block, *, demanded: bool) -> None:
    """Fold a part of a combination into the object. One that is a choice demands nothing."""
    properties, more = own.get("properties") or {}, inner.get("properties") or {}
    if isinstance(properties, dict) and isinstance(more, dict):
        own["properties"] = {**more, **properties}
    if not demanded:  # each of several may forbid what the other one has
        own.pop("additionalProperties", None)
        return
    required, more = own.get("required") or [], inner.get("required")
    if isinstance(required, list) and isinstance(more, list) and more:
        own["required"] = required + [name for name in more if name not in required]


def _objects(value: Any) -> list[Block]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _referred(reference: Any, root: Mapping[str, Any]) -> Block | None:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    found: Any = root
    for step in reference[2:].split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None
