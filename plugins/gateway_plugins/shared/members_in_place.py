"""Changes single fields of a request's body, in any dialect (API format). All other bytes of the body are passed on
unchanged.

Each field is decoded only once, so that a second change of a field does not undo the first change.
"""

from __future__ import annotations

from typing import Any

from gateway.contract import lenient_json
from gateway.contract.flag import Members
from gateway_plugins.shared.fields import member


class EditedMembers:
    """Decoded fields of a body by name. A missing field is None.

    Reading a field that is nested too deeply raises `Refused`.
    """

    def __init__(self, top: Members) -> None:
        self.top = top
        self._raws: dict[str, bytes] = {}
        self._values: dict[str, Any] = {}
        self._changed: dict[str, None] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = member(self.top, name)
        return self._values[name]

    def raw(self, name: str) -> bytes:
        """Return the field's JSON text as the client sent it, or b"" if the field is missing.

        A search in this text takes less time than decoding, and may show that the field need not be decoded.
        """
        if name not in self._raws:  # kept, because each `top.get` copies the bytes
            self._raws[name] = self.top.get(name, b"")
        return self._raws[name]

    def change(self, name: str) -> None:
        """Record that the caller has changed the decoded value of a field in place."""
        self._changed[name] = None

    def put(self, name: str, value: Any) -> None:
        self._values[name] = value
        self.change(name)

    def changes(self) -> dict[str, bytes | None]:
        """Return the JSON of each changed field, or None for a field to remove, as `Members.spliced` expects.

        A field is removed if its value is None, {} or [].
        """
        values = {name: self._values[name] for name in self._changed}
        return {name: None if value in (None, {}, []) else lenient_json.dumps(value) for name, value in values.items()}
