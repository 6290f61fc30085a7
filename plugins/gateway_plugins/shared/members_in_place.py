"""Members of a body that are changed in place, each decoded once, so that one change does not undo another.

Envelopes use it, which pass on a body unchanged except for a few members. Nothing here knows a dialect.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.contract.flag import Members
from gateway_plugins.shared.fields import member


class EditedMembers:
    """Decoded members by name. A missing member is None; one that is nested too deeply raises `Refused`."""

    def __init__(self, top: Members) -> None:
        self.top = top
        self._values: dict[str, Any] = {}
        self._changed: dict[str, None] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = member(self.top, name)
        return self._values[name]

    def raw(self, name: str) -> bytes:
        """Return the bytes of the member as it came, or b"": a text that is not in them is not in the member."""
        return self.top.get(name, b"")

    def change(self, name: str) -> None:
        """Record that the decoded value was changed."""
        self._changed[name] = None

    def put(self, name: str, value: Any) -> None:
        self._values[name] = value
        self.change(name)

    def changes(self) -> dict[str, bytes | None]:
        """Return the changed members for `Members.spliced`; an object or list that became empty is removed."""
        values = {name: self._values[name] for name in self._changed}
        return {name: orjson.dumps(value) if value not in ({}, []) else None for name, value in values.items()}
