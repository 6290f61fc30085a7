"""Tells the tool calls of a streamed Chat reply apart, by the index, id, name and arguments in each piece of a call.

A piece has an index, and the first piece of a call has an id and a name (OpenAI's API reference). Servers deviate:

- the index is 0 for every call, missing, a string, or differs between the pieces of one call (ollama#15457, agno#8880,
  openai-python#3246);
- the id is missing, is repeated in every piece, is different in every piece (vLLM), or is the same for several calls;
- the name is repeated in every piece, or only the name shows that a new call begins;
- `{}` comes before the real arguments, or the whole call is sent again at the end.

So these rules decide, in this order:

1. A piece with the id of a known call continues this call. Exception: if the piece has a name, and its index differs
   from the call's index, the piece begins a new call.
2. Any other piece is compared with the call that has the same index. If the piece has no index, it is compared with the
   last call. The piece begins a new call if it has a name, and its name or id differs from that of the call.
3. If no call has the same index, a piece with an id or a name begins a new call. Any other piece continues the last
   call.

A piece with a name and arguments never continues a call whose arguments are complete JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from gateway.contract import lenient_json
from gateway_plugins.shared import lenient


class _Known(msgspec.Struct):
    """A tool call that has begun, with the pieces of its arguments so far."""

    number: int
    index: int | None
    id: str
    name: str
    pieces: list[str] = msgspec.field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces).strip()


def is_complete(pieces: Sequence[str]) -> bool:
    """Return whether the joined pieces of arguments are a complete JSON value."""
    if not pieces or pieces[-1].rstrip()[-1:] != "}":  # avoids parsing after most pieces
        return False
    try:
        lenient_json.loads("".join(pieces))
    except orjson.JSONDecodeError:
        return False
    return True


class _Piece(msgspec.Struct, frozen=True):
    index: int | None
    id: str
    name: str
    arguments: str


class CallNumbers:
    """Finds the tool call to which each entry of a delta's `tool_calls` belongs.

    Calls are numbered in the order in which they begin.
    """

    def __init__(self) -> None:
        self._calls: list[_Known] = []
        self._by_id: dict[str, _Known] = {}
        self._by_index: dict[int, _Known] = {}

    def read(self, entries: Iterable[Any], *, whole: bool = False) -> list[tuple[int, dict[str, Any]]]:
        """Return (number of the tool call, entry) for each entry of `tool_calls`.

        Entries that repeat a complete call are left out. If `whole` is true, the reply is not streamed, and each entry
        is a separate call.
        """
        seen: set[int] = set()
        numbered = []
        for entry in map(lenient.mapping, entries):
            piece = _piece(entry)
            if not (self._calls or piece.id or piece.name or piece.arguments):
                continue  # an empty call, which some servers send at the end of a reply without calls
            call = self._new(piece) if whole else self._find(piece, seen)
            if call is not None:
                seen.add(call.number)
                numbered.append((call.number, entry))
        return numbered

    def _find(self, piece: _Piece, seen: set[int]) -> _Known | None:
        """Return the tool call to which a piece belongs, or None if the piece repeats a complete call.

        `seen` has the number (`_Known.number`) of each call with an earlier piece in the same delta.
        """
        call = self._call_of(piece, seen)
        if call is not None and piece.name and is_complete(call.pieces) and piece.arguments.strip():
            if call.arguments == piece.arguments.strip() and call.number not in seen:
                return None
            call = None
        if call is None:
            return self._new(piece)
        call.id, call.name = call.id or piece.id, call.name or piece.name
        self._note(call, piece)
        return call

    def _call_of(self, piece: _Piece, seen: set[int]) -> _Known | None:
        """Return the earlier tool call that a piece continues, or None if the piece begins a new call.

        `seen` has the numbers of the calls with an earlier piece in the same delta.
        """
        if piece.id in self._by_id:
            known = self._by_id[piece.id]
            # a piece with a name and another index begins another call, which has the same id
            is_other = bool(piece.name) and None not in (piece.index, known.index) and piece.index != known.index
            return None if is_other else known
        last = self._calls[-1] if self._calls else None
        current = last if piece.index is None else self._by_index.get(piece.index)
        if current is None:
            # a piece that says nothing about itself continues the last call, whatever its index
            return None if piece.id or piece.name or last is None or is_complete(last.pieces) else last
        if piece.name and current.name:
            is_other = piece.name != current.name or bool(piece.id and current.id) or current.number in seen
            return None if is_other else current
        if piece.id and current.id:  # an id that is made anew for every piece
            return None if is_complete(current.pieces) and piece.arguments.strip() else current
        return current

    def _new(self, piece: _Piece) -> _Known:
        call = _Known(len(self._calls), piece.index, piece.id, piece.name)
        self._calls.append(call)
        self._note(call, piece)
        return call

    def _note(self, call: _Known, piece: _Piece) -> None:
        if piece.arguments:
            # `{}` before the arguments stands for arguments that are still to come
            if call.pieces == ["{}"]:
                call.pieces.clear()
            call.pieces.append(piece.arguments)
        if piece.id:
            self._by_id[piece.id] = call
        if piece.index is not None:
            self._by_index[piece.index] = call


def _piece(entry: Mapping[str, Any]) -> _Piece:
    function = lenient.mapping(entry.get("function"))
    given = function.get("arguments")
    return _Piece(
        _index(entry.get("index")),
        lenient.text(entry.get("id")),
        lenient.text(function.get("name")),
        lenient.arguments(given) if given else "",
    )


def _index(value: Any) -> int | None:
    """Return the index as an integer, or None for any other value. A string of digits counts as an integer."""
    if isinstance(value, str) and value.isdecimal() and len(value) < len("1000"):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
