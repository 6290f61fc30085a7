"""Names, ids and input schemas of tools in a form that providers accept.

A name that a provider would refuse gets an alias. In replies, the client's names are restored. The same rules are used
for all providers: those of Messages and Converse, which are equal and stricter than OpenAI's. The JSON form of a tool,
a call or a result differs by dialect and is not handled here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any, Final

import msgspec

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.fields import escape_step, param
from gateway_plugins.shared.references import inline_references, referred
from gateway_plugins.shared.remembered_schemas import converted

Block = dict[str, Any]

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Pattern of the tool names and call ids that Messages and Converse accept."""
_IDENTIFIER: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
"""Pattern of the tool names that Gemini accepts. Messages and Converse accept them as well."""
_PROPERTY: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
"""Pattern of the names that Claude accepts for the top-level properties of a tool's schema.

Some MCP servers have other names, such as $top and filter[id] (goose#1804)."""
_ALPHANUMERIC: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_MERGED: Final = frozenset({"anyOf", "oneOf", "allOf", "$ref"})
_COMBINED: Final = _MERGED | {"$schema"}
_KEPT: Final = frozenset(
    {"properties", "required", "type", "title", "description", "$id", "$comment", "$defs", "definitions", "examples"}
)
"""Keywords that are never reported as dropped when `_Folder` merges one schema into another.

Most of them do not restrict the tool's input. `properties` and `required` are copied into the merged schema. The value
of `type` is checked in `_lost`."""
_MAX_OWN_ID: Final = 128
"""Maximum number of characters of a call id, for a model that makes its own ids (`ToolIds.own`). Such an id includes
the name of the tool, which has up to 64 characters."""
_MAX_FOLDS: Final = 8
"""Maximum depth of nested allOf, anyOf, oneOf and $ref that are merged (`tool_schema`). Real schemas have 1 or 2."""


class Names:
    """Aliases for names of tools and properties that providers would refuse.

    For example, the names of some MCP tools have more than 64 characters (bifrost#3788).
    """

    def __init__(self, *, leading_digits: bool = True) -> None:
        """Begin without aliases. If `leading_digits` is false, no tool's name may begin with a digit or a dash."""
        self._form = _NAME if leading_digits else _IDENTIFIER
        self._client_names: dict[str, str] = {}
        self._properties: dict[str, str] = {}

    def alias(self, client_name: str) -> str:
        return client_name if self._form.fullmatch(client_name) else self._new_alias(client_name, self._client_names)

    def restore(self, made: str) -> str:
        return self._client_names.get(made, made)

    def plain_schema(self, schema: Block) -> Block:
        """Return a tool's schema with aliases for the top-level properties whose names Claude refuses."""
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, dict) or all(map(_PROPERTY.fullmatch, properties)):
            return schema
        made = {**schema, "properties": self.plain_input(properties)}
        if isinstance(required, list):
            made["required"] = [self._property(name) if isinstance(name, str) else name for name in required]
        return made

    def plain_input(self, value: Block) -> Block:
        """Return the input of a tool call, with aliases for the properties whose names Claude refuses."""
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
        made = made if self._form.fullmatch(made) else f"_{made[1:]}"
        known[made] = client_name
        return made


def unused(name: str, taken: Collection[str]) -> str:
    """Return the name, with underscores appended until it is not in `taken`."""
    while name in taken:
        name += "_"
    return name


def tool_id(client_id: str, length: int = 0) -> str:
    """Return the id of a tool call, or a hash of the id if the model does not accept it (fabro#707).

    The call and its result get the same hash. If `length` is not 0, the model requires ids of exactly this length, of
    letters and digits. A longer id is replaced by a hash, and not cut, because some servers' ids have a common
    beginning (`tooluse_`): two cut ids could be equal.
    """
    if length:
        if len(client_id) == length and client_id.isascii() and client_id.isalnum():
            return client_id
        number = int.from_bytes(blake2b(client_id.encode(), digest_size=16).digest())
        return "".join(_ALPHANUMERIC[number // 36**place % 36] for place in range(length))
    return (
        client_id if _NAME.fullmatch(client_id) else "call_" + blake2b(client_id.encode(), digest_size=12).hexdigest()
    )


def is_own_id(client_id: str, own: str) -> bool:
    """Return whether the id matches `own`, a glob for the ids that the model itself gives to calls."""
    return bool(own) and len(client_id) <= _MAX_OWN_ID and fnmatchcase(client_id, own)


class ToolIds(msgspec.Struct):
    """The ids that the gateway sends to the provider for the tool calls of one conversation.

    These ids are valid, and unique in the conversation. They do not change when the client sends the conversation
    again. The client's own ids may be repeated, because some servers use the same ids in each turn (call_0, call_1).
    Providers refuse repeated ids.
    """

    length: int = 0
    own: str = ""
    """A glob that matches the ids that the model itself gives to calls. The model requires its ids back unchanged, and
    other providers refuse them.

    It is "" if the model makes no such ids."""
    _used: set[str] = msgspec.field(default_factory=set)
    _open: dict[str, list[str]] = msgspec.field(default_factory=dict)
    """The provider's ids of the calls that have no result yet, by the client's id."""
    _answered: dict[str, Block] = msgspec.field(default_factory=dict)
    """The results in the current user turn, by the client's id of the call."""

    @property
    def waiting(self) -> bool:
        """True if a call of the assistant's last turn has no result yet."""
        return any(self._open.values())

    def assistant_turn(self) -> None:
        """Begin a turn of the assistant. Later results can only answer calls of this turn."""
        self._open.clear()
        self._answered.clear()

    def call(self, client_id: str) -> str:
        made, count = client_id if is_own_id(client_id, self.own) else tool_id(client_id, self.length), 1
        while made in self._used:
            count += 1
            made = tool_id(f"{client_id}#{count}", self.length)
        self._used.add(made)
        self._open.setdefault(client_id, []).append(made)
        return made

    def answer(self, result: Block, key: str, at: str) -> bool:
        """Replace the call's id in the field `key` of a tool result by the provider's id, and return True.

        Return False if an earlier result of this turn has the same id. The content of `result` is then appended to the
        earlier result, and the caller must not send `result`. Raises `Refused` for a result without a call. `at` is the
        JSON pointer of the client's field with the id.
        """
        client_id = result[key]
        if waiting := self._open.get(client_id):
            result[key] = waiting.pop(0)
            self._answered[client_id] = result
            return True
        if (first := self._answered.get(client_id)) is None:
            name = param(at)
            raise invalid(f'{name}: "{client_id}" answers no tool call of the assistant message before it', name)
        first["content"] = [*first["content"], *result["content"]]
        return False

    def unanswered(self) -> list[str]:
        """Return the provider's ids of the calls that still have no result."""
        return [made for waiting in self._open.values() for made in waiting]


def fit_schema(schema: Any, name: str, at: str, caps: Caps, drop: Drop) -> Block:
    """Return a tool's input schema in a form that providers and the model accept.

    Lost constraints are reported as dropped. `at` is the JSON pointer of the schema in the client's request.
    """
    fitted: Block = converted(fit_schema_anew, schema, name, at, caps.schema_references, drop)
    return fitted


def fit_schema_anew(schema: Any, name: str, at: str, references: bool, drop: Drop) -> Block:
    """Convert a schema as `fit_schema` does, but without using remembered results. `references` is
    `Caps.schema_references`.
    """
    return tool_schema(schema if references else inline_references(schema, at, drop), name, at, drop)


def tool_schema(schema: Any, name: str, at: str, drop: Drop = lambda _: None) -> Block:
    """Return a tool's input schema in a form that providers accept.

    Providers accept a schema whose top level has type object, and no anyOf, oneOf, allOf or $ref (pi#8279). The schemas
    under these keywords are merged into one object schema. This object schema allows every input that the client's
    schema allows. If it also allows other inputs, the difference is reported as dropped. `at` is the JSON pointer of
    the schema.
    """
    if schema is None:
        return {"type": "object", "properties": {}}
    if not isinstance(schema, dict):
        raise invalid(f'{param(at)}: the schema of tool "{name}" must be an object', param(at))
    folded = _Folder(schema, drop).fold(schema, at)
    kind = folded.get("type")
    if not _can_be_object(kind):
        raise invalid(f'{param(at)}: the schema of tool "{name}" has type {kind!r}; it must be "object"', param(at))
    folded["type"] = "object"
    folded["properties"] = folded.get("properties") or {}  # null is refused (bifrost#1720)
    if not isinstance(folded["properties"], dict):
        raise invalid(f'{param(at)}.properties: the schema of tool "{name}" must have an object there', param(at))
    if "required" in folded and not isinstance(folded["required"], list):
        del folded["required"]
    return folded


def _can_be_object(kind: Any) -> bool:
    """Return whether the `type` of a schema allows objects. Some clients send `custom`, which counts as `object`."""
    return kind in (None, "object", "custom") or (isinstance(kind, list) and "object" in kind)


class _Folder(msgspec.Struct):
    """Merges the schemas under anyOf, oneOf, allOf and $ref at the top level of the schema `root` into one object
    schema.

    Lost constraints are reported as dropped.
    """

    root: Mapping[str, Any]
    drop: Drop
    _begun: set[int] = msgspec.field(default_factory=set)
    """Python's `id(schema)` of each schema whose merge has begun. A schema that occurs again inside its own merge
    refers to itself."""
    _folded: dict[int, Block] = msgspec.field(default_factory=dict)
    """Maps Python's `id(schema)` to the merged form of the schema."""

    def fold(self, schema: Mapping[str, Any], at: str, depth: int = 0) -> Block:
        """Return a copy of the schema, with the schemas under its anyOf, oneOf, allOf and $ref merged into it.

        The copy does not have these four keywords. Two kinds of schemas are copied without merging: a schema inside
        itself, and a schema below the depth `_MAX_FOLDS`, whose keywords are then reported as dropped.
        """
        if (folded := self._folded.get(id(schema))) is not None:
            return folded
        own = {key: value for key, value in schema.items() if key not in _COMBINED}
        if id(schema) in self._begun:
            return own
        if depth > _MAX_FOLDS:
            for key in sorted(_MERGED & schema.keys()):
                self.drop(f"{at}/{key}")
            return own
        self._begun.add(id(schema))
        for part, name in self._parts(schema):
            folded = self.fold(part, f"{at}/{name}", depth + 1)
            for lost in _lost(own, folded):
                self.drop(f"{at}/{name}/{escape_step(lost)}")
            _add(own, folded, demanded=True)
        for key in ("anyOf", "oneOf"):
            if alternatives := _objects(schema.get(key)):
                self.drop(f"{at}/{key}")
            for index, part in enumerate(alternatives):
                _add(own, self.fold(part, f"{at}/{key}/{index}", depth + 1), demanded=False)
        self._folded[id(schema)] = own
        return own

    def _parts(self, schema: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
        """Return the schemas under allOf and $ref, which every input of the tool must match. Each has its path in
        `schema`.
        """
        parts: list[tuple[Mapping[str, Any], str]] = [
            (part, f"allOf/{index}") for index, part in enumerate(_objects(schema.get("allOf")))
        ]
        if (target := referred(schema.get("$ref"), self.root)) is not None:
            parts.append((target, "$ref"))
        return parts


def _lost(own: Block, inner: Block) -> list[str]:
    """Return the keywords that are lost when the schema `inner` is merged into `own`.

    Only keywords that restrict the tool's input are returned.
    """
    lost = [*(inner.keys() - _KEPT - own.keys())]
    return lost if _can_be_object(inner.get("type")) else [*lost, "type"]


def _add(own: Block, inner: Block, *, demanded: bool) -> None:
    """Add the properties of the schema `inner` to the object schema `own`.

    `demanded` is false if `inner` is an alternative of anyOf or oneOf. The properties that `inner` requires are then
    optional in `own`.
    """
    properties, more = own.get("properties") or {}, inner.get("properties") or {}
    if isinstance(properties, dict) and isinstance(more, dict):
        own["properties"] = {**more, **properties}
    if not demanded:  # an alternative may forbid properties that another alternative has
        own.pop("additionalProperties", None)
        return
    required, more = own.get("required") or [], inner.get("required")
    if isinstance(required, list) and isinstance(more, list) and more:
        own["required"] = required + [name for name in more if name not in required]


def _objects(value: Any) -> list[Block]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
