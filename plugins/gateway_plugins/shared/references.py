"""Replaces the references in a JSON schema by their definitions, for models that accept no references.

Some models refuse definitions in a tool's schema ("extraneous key [definitions] is not permitted", zed#28521), or
ignore them. In three cases, the schema loses a constraint, which is reported as dropped:

- A definition refers to itself. The inner reference is replaced by the type and the description of the definition.
- The schema would become too deep or too large. The reference is replaced in the same way.
- The definition is missing. The reference is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from gateway.contract.flag import Drop
from gateway_plugins.shared.fields import escape_step
from gateway_plugins.shared.lenient import sequence

Schema = dict[str, Any]

MAX_NODES: Final = 5_000
"""Maximum number of references that are replaced in one schema.

Without this limit, a small schema could become huge: if each definition refers twice to the next one, every further
definition doubles the size."""
MAX_LEVELS: Final = 24
"""Maximum depth of nested references: one definition refers to the next. Real schemas have fewer than ten levels."""
_DEFINITIONS: Final = frozenset({"$defs", "definitions"})
_ABOUT: Final = frozenset({"title", "description", "default", "examples", "example"})
"""Keywords that restrict nothing, such as `description`.

If a reference has such a keyword beside it, and the definition has it too, the value beside the reference is used."""
_IDENTIFIERS: Final = frozenset({"$id", "$anchor", "$schema", "$comment", "$dynamicRef", "$dynamicAnchor"})
"""Keywords that are removed from a schema, because no model needs them. Some are useful only for references."""
NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
"""Keywords whose value is an object with names as keys and schemas as values. The keys must not be read as keywords."""
VALUES: Final = frozenset({"const", "enum", "default", "examples", "example"})
"""Keywords whose values are not schemas, even if they look like schemas. Such values are not changed."""


def inline_references(schema: Any, at: str, drop: Drop) -> Any:
    """Return the schema with each reference replaced by its definition, and without the definitions themselves. `at` is
    the JSON pointer of the schema.
    """
    return Inliner(schema, drop).schema(schema, at, ()) if isinstance(schema, dict) else schema


@dataclass(slots=True)
class Inliner:
    """Replaces the references in one or several parts of the schema `root`.

    At most `MAX_NODES` references are replaced, counted over all these parts together.
    """

    root: Schema
    drop: Drop
    _nodes: int = field(default=0)

    def schema(self, value: Any, at: str, inside: tuple[str, ...]) -> Any:
        """Return a schema, or a list of schemas, with its references replaced.

        `inside` has the references from which this schema comes. Such a reference inside the schema is a cycle.
        """
        if isinstance(value, list):
            return [self.schema(each, f"{at}/{index}", inside) for index, each in enumerate(value)]
        if not isinstance(value, dict):
            return value
        made = {
            name: self._keyword(name, inner, f"{at}/{escape_step(name)}", inside)
            for name, inner in value.items()
            if name not in _DEFINITIONS and name not in _IDENTIFIERS and name != "$ref"
        }
        return made if "$ref" not in value else self._replaced(value["$ref"], made, f"{at}/$ref", inside)

    def _keyword(self, name: str, value: Any, at: str, inside: tuple[str, ...]) -> Any:
        if name in VALUES:
            return value
        if name in NAMED and isinstance(value, dict):
            return {key: self.schema(each, f"{at}/{escape_step(key)}", inside) for key, each in value.items()}
        return self.schema(value, at, inside)

    def _replaced(self, reference: Any, own: Schema, at: str, inside: tuple[str, ...]) -> Schema:
        """Return the schema that replaces `reference`: the referenced definition, merged with `own`, the keywords
        beside the reference.

        - If both have different values of a keyword in `_ABOUT`, the value in `own` is used.
        - If both have different values of any other keyword, the definition becomes a part of `allOf`, so that both
          values apply.
        - `inside` has the references in whose definitions this reference occurs.
        """
        target = referred(reference, self.root)
        if target is None:
            self.drop(at)
            return own
        self._nodes += 1
        if reference in inside or len(inside) >= MAX_LEVELS or self._nodes > MAX_NODES:
            self.drop(at)
            return {name: target[name] for name in ("type", "description") if name in target} | own
        made: Schema = self.schema(target, at, (*inside, reference))
        if all(name in _ABOUT or made.get(name, value) == value for name, value in own.items()):
            return made | own
        return {**own, "allOf": [*sequence(own.get("allOf")), made]}


Steps = tuple[str, ...]
"""The steps of a JSON pointer, unescaped. The root of a document is `()`."""


def pointer_steps(reference: Any) -> Steps | None:
    """Return the steps of a reference to a part of the same document, or None for any other value.

    `#/$defs/a~1b` has the steps `$defs` and `a/b`.
    """
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    steps = unquote(reference[1:]).split("/")[1:]
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)


def referred(reference: Any, root: Mapping[str, Any]) -> Schema | None:
    """Return the schema to which a reference such as `#/$defs/a` points in `root`, or None if there is none."""
    if (steps := pointer_steps(reference)) is None:
        return None
    value: Any = root
    for name in steps:
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None
