"""Names, ids and input schemas of tools as providers accept them, and the client's own names in replies.

The rules of Messages and of Converse are the same, and OpenAI accepts what those accept. The form of a tool, a call or
a result belongs to its dialect.
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
"""A tool's name or id that Messages and Converse accept."""
_PROPERTY: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
"""A name of a property at a schema's root that Claude accepts; MCP servers have $top and filter[id] (goose#1804)."""
_ALPHANUMERIC: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_COMBINED: Final = frozenset({"anyOf", "oneOf", "allOf", "$ref", "$schema"})
_MAX_FOLDS: Final = 8
"""Most combinations and references inside each other at a schema's root; real schemas have one or two."""


class Names:
    """Aliases for tool names that providers refuse (bifrost#3788: MCP names over 64 characters)."""

    def __init__(self) -> None:
        self._client_names: dict[str, str] = {}
        self._properties: dict[str, str] = {}

    def alias(self, client_name: str) -> str:
        return client_name if _NAME.fullmatch(client_name) else self._new_alias(client_name, self._client_names)

    def restore(self, made: str) -> str:
        return self._client_names.get(made, made)

    def plain_schema(self, schema: Block) -> Block:
        """Return a tool's schema with aliases for the properties at its root whose names Claude refuses."""
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, dict) or all(map(_PROPERTY.fullmatch, properties)):
            return schema
        made = {**schema, "properties": self.plain_input(properties)}
        if isinstance(required, list):
            made["required"] = [self._property(name) if isinstance(name, str) else name for name in required]
        return made

    def plain_input(self, value: Block) -> Block:
        """Return a call's input with the names of `plain_schema`."""
        return {self._property(name): inner for name, inner in value.items()}

    @property
    def renames_properties(self) -> bool:
        return bool(self._properties)

    def restore_input(self, made: Block) -> Block:
        return {self._properties.get(name, name): value for name, value in made.items()}

    def _property(self, client_name: str) -> str:
        return client_name if _PROPERTY.fullmatch(client_name) else self._new_alias(client_name, self._properties)

    def _new_alias(self, client_name: str, known: dict[str, str]) -> str:
        stem = re.sub(r"[^a-zA-Z0-9_-]+", "_", client_name)[:47]
        made = f"{stem}_{blake2b(client_name.encode(), digest_size=8).hexdigest()}"
        known[made] = client_name
        return made


def unused(name: str, taken: Collection[str]) -> str:
    """Return the name for a tool of the gateway's that no tool of the client has."""
    while name in taken:
        name += "_"
    return name


def tool_id(client_id: str, length: int = 0) -> str:
    """Return an id that the model accepts (fabro#707). Any other becomes a hash, the same for a call and its result.

    `length` is that of models with short alphanumeric ids, else 0. An id is not cut to its first characters, because
    those are the same in all ids of some servers (`tooluse_`).
    """
    if length:
        if len(client_id) == length and client_id.isascii() and client_id.isalnum():
            return client_id
        number = int.from_bytes(blake2b(client_id.encode(), digest_size=16).digest())
        return "".join(_ALPHANUMERIC[number // 36**place % 36] for place in range(length))
    return (
        client_id if _NAME.fullmatch(client_id) else "call_" + blake2b(client_id.encode(), digest_size=12).hexdigest()
    )


@dataclass(slots=True)
class ToolIds:
    """Tool ids of one conversation: valid, unique over it, and the same in every request of it.

    Some servers number their calls anew in each turn (call_0, call_1); an id that comes twice is refused.
    """

    length: int = 0
    _used: set[str] = field(default_factory=set)
    _open: dict[str, list[str]] = field(default_factory=dict)
    """Ids of the calls that wait for a result, by the client's id."""
    _answered: dict[str, Block] = field(default_factory=dict)
    """Results of this turn, by the client's id."""

    @property
    def waiting(self) -> bool:
        """True if calls of the assistant's last turn have no result yet."""
        return any(self._open.values())

    def assistant_turn(self) -> None:
        """Begin an assistant's turn. Later results answer its calls only."""
        self._open.clear()
        self._answered.clear()

    def call(self, client_id: str) -> str:
        made, count = tool_id(client_id, self.length), 1
        while made in self._used:
            count += 1
            made = tool_id(f"{client_id}#{count}", self.length)
        self._used.add(made)
        self._open.setdefault(client_id, []).append(made)
        return made

    def answer(self, result: Block, key: str, path: str) -> bool:
        """Set a result's member `key`, which holds the client's id, to the id of its call.

        Returns False if another result answered that call in this turn; that one gets the content too. Raises `Refused`
        for a result without a call. `path` is the JSON pointer of the client's message.
        """
        client_id = result[key]
        if waiting := self._open.get(client_id):
            result[key] = waiting.pop(0)
            self._answered[client_id] = result
            return True
        if (first := self._answered.get(client_id)) is None:
            name = f"{param(path)}.tool_call_id"
            raise invalid(f'{name}: "{client_id}" answers no tool call of the assistant message before it', name)
        first["content"] = [*first["content"], *result["content"]]
        return False

    def unanswered(self) -> list[str]:
        """Return the ids of calls without a result at the end of the user's turn."""
        return [made for waiting in self._open.values() for made in waiting]


def tool_schema(schema: Any, name: str, at: str) -> Block:
    """Return a tool's input schema: an object at its root, without anyOf, oneOf, allOf or a reference there (pi#8279).

    Schemas that such a root combines are folded into one object, which allows every call that the client's schema
    allows. `at` is the schema's JSON pointer.
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
    """Return the schema without combinations at its root. One that is met again adds nothing, so circles end."""
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
    """Fold a part of a combination into the object. A part that is a choice requires nothing."""
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
    value: Any = root
    for step in reference[2:].split("/"):
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None
