"""The top-level members of a JSON object, found without decoding them.

A gateway changes two or three members of a body and must leave the rest as it came, byte for byte: a JSON round trip
turns 1.0 into 1, loses digits of big integers and costs milliseconds on a body with images. So a body is indexed once,
and rebuilt by splicing. Nothing here knows what a member means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.errors import invalid

_DECODER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: Final = re.compile(rb'[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*')
_GAP: Final = re.compile(rb"\s*")


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
        """The decoded value of a member, or `default` where it is missing. Raises `Refused` for what is no JSON."""
        span = self._spans.get(name)
        if span is None:
            return default
        try:
            return orjson.loads(self.body[span[1] : span[2]])
        except orjson.JSONDecodeError as error:
            # finding a member's end is more lenient than reading it: bytes that are no UTF-8, depth
            raise invalid(f'the body\'s "{name}" is not valid JSON: {error}', name) from None

    def spliced(self, changes: Mapping[str, bytes | None]) -> bytes:
        """The body with members replaced or added (bytes of their values) or taken out (None); all others unchanged."""
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


def _spans(body: bytes) -> dict[str, tuple[int, int, int]]:
    """Name to (offset of its key, of its value, of the value's end).

    msgspec skips values at the speed of C and keeps the last of two equal names; walking the text beside it is what
    notices the other one.
    """
    try:
        raws = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"the body is not a JSON object: {error}") from None
    except RecursionError:
        raise invalid("the body is not a JSON object that can be read: it is nested too deeply") from None
    spans = {}
    at = body.index(b"{")
    for name, raw in raws.items():
        key = _KEY.match(body, at)
        if key is None or orjson.loads(key[1]) != name:
            raise _twice(body)
        value = bytes(raw)
        start, end = key.end(), key.end() + len(value)
        if body[start:end] != value:
            raise _twice(body)
        spans[name] = (key.start(1), start, end)
        gap = _GAP.match(body, end)
        at = gap.end() if gap else end
    if spans and body[at : at + 1] != b"}":
        raise _twice(body)
    return spans


def _twice(body: bytes) -> Exception:
    """The refusal that names the member; slow, and only ever run on a body that is refused."""
    seen: set[str] = set()
    twice: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        # json calls this for inner objects first: what is left at the end is the outermost one's
        seen.clear()
        twice.clear()
        for name, _ in pairs:
            (twice.append if name in seen else seen.add)(name)

    json.loads(body, object_pairs_hook=note)
    name = twice[0] if twice else ""
    return invalid(f'the body names "{name}" twice; send it once', name)
