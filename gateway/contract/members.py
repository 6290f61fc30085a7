"""The top-level members of a JSON object, located without decoding their values.

- A gateway changes two or three members of a body and must leave the rest as it came, byte for byte. A JSON round trip
  turns 1.0 into 1, loses digits of big integers and costs milliseconds on a body with images.
- So a body is indexed once, and rebuilt by splicing.
- Nothing here knows the meaning of a member.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.contract.errors import Refused, invalid

_DECODER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: Final = re.compile(rb'[{,]\s*("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*:\s*')
_GAP: Final = re.compile(rb"\s*")

MAX_MEMBERS: Final = 1_000
"""Most members of a body, because each costs a loop in Python; the richest dialect has about fifty."""
_SHOWN: Final = 100
"""Most characters of a name that a refusal repeats."""


class Members(Mapping[str, bytes]):
    """Member name to the bytes of its value, in the document's order.

    Raises `Refused` when the body is no JSON object, or names a member twice: parsers disagree on which of two
    counts, so what was authorised might not be what is served (agentrouter GHSA-4gph-2hhr-5mwg).
    """

    __slots__ = ("_spans", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._spans = _spans(body)

    def __getitem__(self, name: str) -> bytes:
        _, start, end = self._spans[name]
        return self.body[start:end]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, name: object) -> bool:
        return name in self._spans

    def decode(self, name: str, default: Any = None) -> Any:
        """Return the decoded value of a member, or `default` without one. Raises `Refused` if the value is not JSON."""
        span = self._spans.get(name)
        if span is None:
            return default
        try:
            return orjson.loads(self.body[span[1] : span[2]])
        except orjson.JSONDecodeError as error:
            # finding a member's end is more lenient than reading it: bytes that are no UTF-8, depth
            raise invalid(f'the body\'s "{name}" is not valid JSON: {error}', name) from None

    def spliced(self, changes: Mapping[str, bytes | None]) -> bytes:
        """Return the body with some members replaced or added (bytes of their values) or removed (None)."""
        parts = []
        for name, (key, start, end) in self._spans.items():
            if name not in changes:
                parts.append(self.body[key:end])
            elif (value := changes[name]) is not None:
                parts.append(self.body[key:start] + value)
        parts += [
            orjson.dumps(name) + b":" + value
            for name, value in changes.items()
            if value is not None and name not in self._spans
        ]
        return b"{" + b",".join(parts) + b"}"

    def replaced(self, name: str, value: bytes) -> Members:
        """Return the members with another value of an existing member. `value` is JSON and is not checked."""
        _, start, end = self._spans[name]
        growth = len(value) - (end - start)

        def moved(offset: int) -> int:
            return offset + growth if offset >= end else offset

        changed = Members.__new__(Members)
        changed.body = b"".join((self.body[:start], value, self.body[end:]))
        changed._spans = {  # noqa: SLF001 (of the same class)
            other: (moved(key), moved(value_start), moved(value_end))
            for other, (key, value_start, value_end) in self._spans.items()
        }
        return changed


def _spans(body: bytes) -> dict[str, tuple[int, int, int]]:
    """Return the offsets of each member's key, value and value's end, by name. Raises `Refused`.

    msgspec skips values at the speed of C but keeps the last of two equal names. Walking the text in parallel detects
    the other one.
    """
    try:
        raws = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"the body is not a JSON object: {error}") from None
    except RecursionError:
        raise invalid("the body is not a JSON object that can be read: it is nested too deeply") from None
    if len(raws) > MAX_MEMBERS:
        raise invalid(f"the body has {len(raws)} members at its top; at most {MAX_MEMBERS} are taken")
    spans: dict[str, tuple[int, int, int]] = {}
    at = body.index(b"{")
    for name, raw in raws.items():
        key = _KEY.match(body, at)
        if key is None or _name(key) != name:
            raise _twice(body, at, spans)
        value = bytes(raw)
        start, end = key.end(), key.end() + len(value)
        if body[start:end] != value:
            raise _repeated(name)
        spans[name] = (key.start(1), start, end)
        gap = _GAP.match(body, end)
        at = gap.end() if gap else end
    if spans and body[at : at + 1] != b"}":
        raise _twice(body, at, spans)
    return spans


def _name(key: re.Match[bytes]) -> str:
    try:
        return str(orjson.loads(key[1]))
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is not a JSON object: a member's name cannot be read: {error}") from None


def _twice(body: bytes, at: int, passed: dict[str, tuple[int, int, int]]) -> Refused:
    """Return the refusal for a text that does not match the decoded names at `at`.

    Either a name that was passed stands there again, or the last name passed has a value that is the beginning of its
    repeated value (1 and 12): only a number can be the beginning of another value.
    """
    key = _KEY.match(body, at)
    return _repeated(next(reversed(passed), "") if key is None else _name(key))


def _repeated(name: str) -> Refused:
    shown = name[:_SHOWN]
    return invalid(f'the body names "{shown}" twice; send it once', shown)
