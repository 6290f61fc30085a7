"""Merges the parts of `allOf` in a JSON schema into one schema.

Generators write `allOf` for inheritance, for intersections, and for a reference with a description beside it. Gemini
ignores `allOf`. Anthropic and Bedrock accept no reference in `allOf`, and demand `additionalProperties: false` in every
object. So without merging, each part would forbid the properties of the other parts, and no value would be valid.

- A keyword whose values in two parts cannot be combined stays in `allOf`.
- If one part forbids additional properties, the merged object forbids them, and has the properties of all parts.
- References in the parts are replaced by their definitions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from gateway.contract.flag import Drop
from gateway_plugins.shared.fields import escape_step
from gateway_plugins.shared.references import NAMED, VALUES, Inliner

Schema = dict[str, Any]

_SCHEMAS_BY_NAME: Final = NAMED | {"$defs", "definitions"}
_ANNOTATIONS: Final = frozenset({"title", "default", "examples", "example", "$comment"})
"""Keywords that restrict nothing. If schemas with different values of such a keyword are merged, the first value is
kept."""
_TOGETHER: Final = (
    frozenset({"if", "then", "else"}),
    frozenset({"contains", "minContains", "maxContains"}),
    frozenset({"items", "prefixItems", "additionalItems"}),
)
"""Groups of keywords that affect each other, such as `if` and `then`.

Two schemas with different values in a group cannot be merged keyword by keyword. So the keywords of this group stay
together in a schema under `allOf`."""


def merge_all_of(schema: Any, at: str, drop: Drop) -> Any:
    """Return the schema with the parts of `allOf` merged at every depth, as far as they can be merged.

    References in the parts are replaced by their definitions. A reference for which this is not possible is reported as
    dropped. `at` is the JSON pointer of the schema.
    """
    return _Merger(Inliner(schema, drop)).schema(schema, at) if isinstance(schema, dict) else schema


class _Merger:
    def __init__(self, inliner: Inliner) -> None:
        self._inliner = inliner

    def schema(self, value: Any, at: str) -> Any:
        """Return a schema, or a list of schemas, in which the parts of `allOf` are merged at every depth."""
        if isinstance(value, list):
            return [self.schema(each, f"{at}/{index}") for index, each in enumerate(value)]
        if not isinstance(value, dict):
            return value
        own = {
            name: self._keyword(name, inner, f"{at}/{escape_step(name)}")
            for name, inner in value.items()
            if name != "allOf"
        }
        parts = value.get("allOf")
        if not isinstance(parts, list):
            return own if "allOf" not in value else {**own, "allOf": parts}
        inlined = [self._inliner.schema(part, f"{at}/allOf/{index}", ()) for index, part in enumerate(parts)]
        return merged(own, [self.schema(part, f"{at}/allOf/{index}") for index, part in enumerate(inlined)])

    def _keyword(self, name: str, value: Any, at: str) -> Any:
        if name in VALUES:
            return value
        if name in _SCHEMAS_BY_NAME and isinstance(value, dict):
            return {key: self.schema(each, f"{at}/{escape_step(key)}") for key, each in value.items()}
        return self.schema(value, at)


def merged(own: Schema, parts: Iterable[Any]) -> Schema:
    """Return one schema that accepts a value if `own` and all parts accept it.

    Parts that cannot be merged are in the `allOf` of the returned schema.

    >>> merged({"required": ["a"]}, [{"required": ["b"], "minProperties": 1}, {"minProperties": 2}])
    {'required': ['a', 'b'], 'minProperties': 1, 'allOf': [{'minProperties': 2}]}
    """
    sum_of_parts = _Sum()
    waiting = deque([own, *parts])
    while waiting:
        part = waiting.popleft()
        waiting.extendleft(reversed(sum_of_parts.add(part)))
    return sum_of_parts.schema()


class _Sum:
    """The merged schema, to which the parts of an `allOf` are added one by one."""

    def __init__(self) -> None:
        self._made: Schema = {}
        self._properties: dict[str, list[Any]] = {}
        self._required: dict[str, None] = {}
        self._descriptions: dict[str, None] = {}
        self._rest: list[Any] = []

    def add(self, part: Any) -> list[Any]:
        """Merge the schema `part`, except for its keyword `allOf`. Return the schemas under this `allOf`, which the
        caller must add next.
        """
        if not isinstance(part, dict):
            if part is not True:
                self._rest.append(part)
            return []
        together = {name for group in _TOGETHER if self._differ(part, group) for name in group}
        left = {
            name: value
            for name, value in part.items()
            if name != "allOf" and (name in together or not self._took(name, value))
        }
        if left:
            self._rest.append(left)
        parts = part.get("allOf", [])
        return parts if isinstance(parts, list) else []

    def schema(self) -> Schema:
        made = dict(self._made)
        if self._descriptions:
            made["description"] = " ".join(self._descriptions)
        if "properties" in made:
            made["properties"] = {name: _property(schemas) for name, schemas in self._properties.items()}
        if "required" in made:
            made["required"] = list(self._required)
        return {**made, "allOf": self._rest} if self._rest else made

    def _differ(self, part: Schema, group: frozenset[str]) -> bool:
        """Return whether the merged schema and `part` both have keywords of a `group` (`_TOGETHER`), but with different
        values.
        """
        mine = {name: self._made[name] for name in group if name in self._made}
        its = {name: part[name] for name in group if name in part}
        return bool(mine and its and mine != its)

    def _took(self, name: str, value: Any) -> bool:
        """Merge one keyword into the schema, and return True.

        If the schema already has the keyword, with a value that cannot be combined with `value`, nothing is changed,
        and the result is False.
        """
        made = self._made
        if name == "description" and isinstance(value, str):
            made.setdefault(name, "")
            self._descriptions[value] = None
        elif name == "properties" and isinstance(value, dict):
            made.setdefault(name, {})
            for key, inner in value.items():
                self._properties.setdefault(key, []).append(inner)
        elif name == "required" and isinstance(value, list):
            made.setdefault(name, [])
            self._required.update(dict.fromkeys(each for each in value if isinstance(each, str)))
        elif name not in made:
            made[name] = value
        elif name == "type" and (types := _types(made[name], value)):
            made[name] = types
        elif name == "additionalProperties" and (False in (made[name], value) or True in (made[name], value)):
            given = (made[name], value)
            made[name] = False not in given and given[given[0] is True]
        else:
            return name in _ANNOTATIONS or bool(made[name] == value)
        return True


def _property(schemas: list[Any]) -> Any:
    """Merge the `schemas` of one property, each from another part of the `allOf`, into one schema."""
    if False in schemas:
        return False
    return schemas[0] if len(schemas) == 1 else merged({}, schemas)


def _types(first: Any, second: Any) -> Any:
    """Return the types that two values of the keyword `type` have in common. Return None if they have no type in
    common.
    """
    ours, theirs = (value if isinstance(value, list) else [value] for value in (first, second))
    both = [kind for kind in ours if kind in theirs]
    if "integer" not in both and any(
        "integer" in one and "number" in two for one, two in ((ours, theirs), (theirs, ours))
    ):
        both.append("integer")
    return (both if len(both) > 1 else both[0]) if both else None
