"""A JSON body whose top-level values are decoded only when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from gateway.contract import lenient_json
from gateway.contract.members import Members

_LARGE: Final = 1024 * 1024
"""Minimum size in bytes of a value that `exact` decodes, in place of `loads`.

`exact` takes a quarter of the time for long strings, such as base64, but more time for many small values.
"""


class LazyBody(Mapping[str, Any]):
    """A read-only mapping from each top-level key of a JSON body to its decoded value.

    Each value is decoded once, when it is first read. A value that is not valid JSON is None: the parser that finds the
    keys accepts more than the decoder, such as deeper nesting.
    """

    __slots__ = ("_decoded", "_top")

    def __init__(self, top: Members) -> None:
        self._top = top
        self._decoded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._decoded:
            self._decoded[name] = _decoded(self._top[name])
        return self._decoded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._top)

    def __len__(self) -> int:
        return len(self._top)

    def __contains__(self, name: object) -> bool:
        return name in self._top

    def may_hide_names(self) -> bool:
        """Return whether a name in the body may be written with an escape, so that a search does not find it."""
        return self._top.may_hide_names()

    def undecoded(self, name: str) -> bytes:
        """Return the JSON text of a value without the inner parts of its long strings. Return b"" for a missing key."""
        return self._top.head(name, len(self._top.body))


def _decoded(text: bytes) -> Any:
    try:
        return lenient_json.exact(text) if len(text) >= _LARGE else lenient_json.loads(text, utf8=True)
    except orjson.JSONDecodeError:
        return None
