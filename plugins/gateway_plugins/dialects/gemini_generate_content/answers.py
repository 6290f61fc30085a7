"""Wraps answers that are not JSON objects in an object, because most APIs accept only schemas of type object.

A Gemini client may demand JSON of any type. google-genai's own examples demand a list. The provider gets the schema of
`{"answer": ...}` instead, and the gateway removes the object from the reply.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.contract.flag import Drop

Schema = dict[str, Any]

_MEMBER: Final = "answer"
_BEFORE: Final = f'{{"{_MEMBER}":'
"""Beginning of the object around the answer, in JSON without white space."""
_MAX_BEFORE: Final = 200
"""Maximum number of characters that are held back to find out whether the text begins with `{"answer":`."""
_DEFINITIONS: Final = ("$defs", "definitions")


def in_object(schema: Schema) -> Schema | None:
    """Return the schema of `{"answer": ...}`, or None if `schema` has no type or already allows an object.

    Definitions in `schema` move to the top level of the result, because references point there.
    """
    kind = schema.get("type")
    if kind is None or kind == "object" or (isinstance(kind, list) and "object" in kind):
        return None
    definitions: Schema = {name: schema[name] for name in _DEFINITIONS if name in schema}
    answer = {name: value for name, value in schema.items() if name not in definitions}
    return {"type": "object", "properties": {_MEMBER: answer}, "required": [_MEMBER], **definitions}


class DropInAnswer(msgspec.Struct, frozen=True):
    """A `drop` callback for a schema that `in_object` has wrapped.

    It removes `/properties/answer` from each JSON pointer before it calls `drop`, so that reports point into the
    client's own schema.
    """

    drop: Drop
    schema_at: str

    def __call__(self, path: str) -> None:
        prefix = f"{self.schema_at}/properties/{_MEMBER}"
        self.drop(self.schema_at + path.removeprefix(prefix) if path.startswith(prefix) else path)


class AnswerText:
    """Removes `{"answer":` and `}` from around a streamed answer. Text without them is passed on unchanged."""

    def __init__(self) -> None:
        self._held = ""
        """Text that is held back until later text shows whether it belongs to the answer."""
        self._is_inside: bool | None = None
        """Whether the text began with `{"answer":`. None means that too little text has come."""

    def feed(self, piece: str) -> str:
        """Add a piece of the provider's text. Return the text to pass on now, or ""."""
        if self._is_inside is False:
            return piece
        self._held += piece
        if self._is_inside is None and not self._begin():
            return ""
        return self._known()

    def close(self) -> str:
        """End the text. Return the text that is still held back, without the closing brace of `{"answer": ...}`.

        A later call of `feed` begins a new text.
        """
        held, inside = self._held, self._is_inside
        self._held, self._is_inside = "", None
        return "" if inside and held.strip() == "}" else held

    def _begin(self) -> bool:
        """Set `_is_inside` if enough text has come. Return whether it is set."""
        plain = "".join(self._held.split())
        if plain.startswith(_BEFORE) and plain != _BEFORE:
            self._is_inside = True
            self._held = self._held.partition(":")[2].lstrip()
        elif not _BEFORE.startswith(plain) or len(self._held) > _MAX_BEFORE:
            self._is_inside = False
        return self._is_inside is not None

    def _known(self) -> str:
        if not self._is_inside:
            known, self._held = self._held, ""
            return known
        known = self._held.rstrip().removesuffix("}").rstrip()
        self._held = self._held[len(known) :]
        return known
