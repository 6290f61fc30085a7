"""Requests an answer that is not an object, such as a list, as a field of an object.

A Gemini client may give a JSON schema of any type. For example, google-genai's own examples ask for a list. Other APIs
accept only schemas of type object. So the provider gets the schema of an object with a single field, whose value is the
answer. In the reply, the gateway takes the answer out of the object.
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
"""Maximum number of characters to hold back while it is unknown whether the text begins with the object around the
answer. Longer text is passed on unchanged."""
_DEFINITIONS: Final = ("$defs", "definitions")


def in_object(schema: Schema) -> Schema | None:
    """Return the schema `{"type": "object", "properties": {"answer": schema}}`, with definitions at its top level.

    Returns None if `schema` has no type or already allows an object.
    """
    kind = schema.get("type")
    if kind is None or kind == "object" or (isinstance(kind, list) and "object" in kind):
        return None
    definitions: Schema = {name: schema[name] for name in _DEFINITIONS if name in schema}
    answer = {name: value for name, value in schema.items() if name not in definitions}
    return {"type": "object", "properties": {_MEMBER: answer}, "required": [_MEMBER], **definitions}


class DropInAnswer(msgspec.Struct, frozen=True):
    """A callback for dropped fields (`flag.Drop`), for a schema that `in_object` has wrapped in the schema of an
    object.

    The callback gets JSON pointers into the wrapping schema. It passes the matching JSON pointers in the client's own
    schema to `drop`.
    """

    drop: Drop
    schema_at: str

    def __call__(self, path: str) -> None:
        prefix = f"{self.schema_at}/properties/{_MEMBER}"
        self.drop(self.schema_at + path.removeprefix(prefix) if path.startswith(prefix) else path)


class AnswerText:
    """Unwraps the answer, piece by piece, from the JSON object that the schema of `in_object` demands.

    A text that is not such an object is not changed.
    """

    def __init__(self) -> None:
        self._held = ""
        """Text that is held back until later text shows whether it belongs to the answer."""
        self._is_inside: bool | None = None
        """True if an object surrounds the answer, and False if not. It is None while this is not known."""

    def feed(self, piece: str) -> str:
        """Add a piece of text. Return the piece of the answer that can be passed on now."""
        if self._is_inside is False:
            return piece
        self._held += piece
        if self._is_inside is None and not self._begin():
            return ""
        return self._known()

    def close(self) -> str:
        """End the text. Return the text that is still held back, without the closing brace of the object.

        The next piece begins a new text.
        """
        held, inside = self._held, self._is_inside
        self._held, self._is_inside = "", None
        return "" if inside and held.strip() == "}" else held

    def _begin(self) -> bool:
        """Find out from the beginning of the text whether an object surrounds the answer. Store this in `_is_inside`.

        Return True if this is known now, and False if more text is needed.
        """
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
