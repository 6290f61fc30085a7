"""Members of a body that are changed in place, each decoded once, so that one change does not undo another.

For envelopes, which hand a body on as it came but for a few members. Nothing here knows a dialect.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.contract.flag import Members
from gateway_plugins.shared.fields import member


class EditedMembers:
    """Decoded members by name, None for one that is missing. Raises `Refused` for one that is nested too deeply."""

    def __init__(self, top: Members) -> None:
        self.top = top
        self._values: dict[str, Any] = {}
        self._changed: dict[str, None] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = member(self.top, name)
        return self._values[name]

    def raw(self, name: str) -> bytes:
        """The bytes as they came, b"" for a missing member: whether something can stand in it is seen in them."""
        return self.top.get(name, b"")

    def change(self, name: str) -> None:
        """The decoded value was changed."""
        self._changed[name] = None

    def put(self, name: str, value: Any) -> None:
        self._values[name] = value
        self.change(name)

    def changes(self) -> dict[str, bytes | None]:
        """For `Members.spliced`. An object or list that has nothing left in it goes."""
        values = {name: self._values[name] for name in self._changed}
        return {name: orjson.dumps(value) if value not in ({}, []) else None for name, value in values.items()}
