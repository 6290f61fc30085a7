"""The top-level keys and values of a JSON body, without decoding the whole body.

- The gateway changes a few keys of a body and must send all other bytes unchanged. Decoding and encoding the body would
  turn 1.0 into 1, lose digits of large integers, and take milliseconds for a body with images.
- So the gateway finds the offsets of all keys and values once. It makes a changed body from the new values and the
  unchanged bytes between them.
- A body may have lone halves of surrogate pairs. They are replaced only in decoded values (`lenient_json.py`).
- All keys are treated alike, whatever they mean to an API.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, TypeVar, overload

import msgspec
import orjson

from gateway.contract import lenient_json
from gateway.contract.errors import Refused, invalid
from gateway.contract.escaped_names import may_hide_names
from gateway.contract.long_strings import Shortened, shortened

T = TypeVar("T")

_DECODER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: Final = re.compile(rb'\s*[{,]\s*"([^"\\]*+(?:\\.[^"\\]*+)*+)"\s*:\s*')
_END: Final = re.compile(rb"\s*}")

MAX_MEMBERS: Final = 1_000
"""Maximum number of top-level keys. Real bodies have at most about fifty."""
MAX_SMALL: Final = 64 * 1024
"""Maximum size in bytes of a value that `Members.small` decodes. Decoding a larger value would block the event loop too
long."""
_SHOWN: Final = 100
"""Maximum number of characters of a key in an error message."""


class Members(Mapping[str, bytes]):
    r"""A mapping from each top-level key of a JSON body to its undecoded value, in the order of the body.

    - The constructor raises `Refused` if the body is not a JSON object or has a key twice. If a key had two values, the
      provider might use the value that the gateway has not checked (agentrouter GHSA-4gph-2hhr-5mwg).
    - `has_halves` is true if the body has a lone half of a surrogate pair. Some providers refuse such a body.
    - `shortened` is the body without the inner parts of its long strings, such as the base64 of an image
      (`long_strings.py`). `mentions` searches this shortened body, because a search in megabytes of base64 takes long.

    >>> top = Members(b'{"model": "small", "n": 1.0}')
    >>> top["n"], top.get("top_p"), top.decode("n"), top.small("model")
    (b'1.0', None, 1.0, 'small')
    >>> top.head("model", 4)
    b'"sma'
    >>> top.spliced({"model": b'"acme-1"', "n": None})
    b'{"model": "acme-1"}'
    >>> top.replaced("n", b"2").body
    b'{"model": "small", "n": 2}'
    >>> len(Members(b'{"image": "%b"}' % (b"A" * 100_000)).shortened)
    2068
    >>> top.mentions(b'"model"'), top.mentions(b'"tools"')
    (True, False)
    >>> top.may_hide_names(), Members(rb'{"mod\u0065l": "small"}').may_hide_names()
    (False, True)
    >>> top.shortened_without({"n"})
    b'{"model": "small"}'
    """

    __slots__ = ("_may_hide_names", "_mentioned", "_short", "_spans", "body", "has_halves", "shortened")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._mentioned: dict[bytes, bool] = {}
        self._may_hide_names: bool | None = None
        self._spans, self._short, self.has_halves = _spans(body)
        self.shortened = body if self._short is None else self._short.text

    def __getitem__(self, name: str) -> bytes:
        _, start, end = self._spans[name]
        return self.body[start:end]

    @overload
    def get(self, name: str) -> bytes | None: ...
    @overload
    def get(self, name: str, default: bytes | T) -> bytes | T: ...
    def get(self, name: str, default: Any = None) -> Any:
        """Return the undecoded value of a key, or `default` if the key is missing.

        This method is faster than the one of `Mapping`.
        """
        span = self._spans.get(name)
        return default if span is None else self.body[span[1] : span[2]]

    def head(self, name: str, size: int) -> bytes:
        """Return the first `size` bytes of the undecoded value of a key. The long strings of the value are shortened
        first.

        Return b"" if the key is missing.
        """
        span = self._spans.get(name)
        if span is None:
            return b""
        _, start, end = span
        if self._short is not None:
            start, end = self._short.place(start), self._short.place(end)
        return self.shortened[start : min(end, start + size)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, name: object) -> bool:
        return name in self._spans

    def decode(self, name: str, default: Any = None) -> Any:
        """Return the decoded value of a key, or `default` if the key is missing.

        Raises `Refused` if the value is not valid JSON.
        """
        span = self._spans.get(name)
        if span is None:
            return default
        try:
            return lenient_json.loads(self.body[span[1] : span[2]], utf8=True)
        except orjson.JSONDecodeError as error:
            # msgspec, which finds the end of a value, accepts more than orjson: invalid UTF-8 and deeper nesting
            raise invalid(f'the body\'s "{name}" is not valid JSON: {error}', name) from None

    def small(self, name: str, default: Any = None) -> Any:
        """Return the decoded value of a key, or `default` if the key is missing.

        Raises `Refused` if the value has more than `MAX_SMALL` bytes or is not valid JSON. On the event loop, use this
        method and not `decode`, which may take up to a second for megabytes.
        """
        if (span := self._spans.get(name)) is None:
            return default
        _, start, end = span
        if end - start > MAX_SMALL:
            raise invalid(f"{name} has {end - start} bytes; at most {MAX_SMALL} are taken", name)
        return self.decode(name, default)

    def mentions(self, text: bytes) -> bool:
        """Return whether the shortened body contains a text anywhere, such as the name of a field in quotes.

        The result is cached for each text.
        """
        found = self._mentioned.get(text)
        if found is None:
            found = self._mentioned[text] = text in self.shortened
        return found

    def may_hide_names(self) -> bool:
        """Return whether the shortened body has an escaped letter, digit or underscore.

        If it has none, a search for the text of a name, as by `mentions`, finds every field with this name. The body is
        searched only once.
        """
        if self._may_hide_names is None:
            self._may_hide_names = may_hide_names(self.shortened)
        return self._may_hide_names

    def shortened_without(self, names: Collection[str]) -> bytes:
        """Return the shortened body without some of the top-level keys and their values."""
        text, short = memoryview(self.shortened), self._short
        parts = list[bytes | memoryview]()
        for name, (key, _, end) in self._spans.items():
            if name not in names:
                start, stop = (key, end) if short is None else (short.place(key), short.place(end))
                parts += (b",", text[start:stop])
        return b"".join((b"{", *parts[1:], b"}"))

    def spliced(self, changes: Mapping[str, bytes | None]) -> bytes:
        """Return the body with changed values. `changes` maps a key to its new JSON text. None removes the key."""
        # views, so that each byte of a large body is copied once
        body, parts = memoryview(self.body), list[bytes | memoryview]()
        for name, (key, start, end) in self._spans.items():
            if name not in changes:
                parts += (b",", body[key:end])
            elif (value := changes[name]) is not None:
                parts += (b",", body[key:start], value)
        for name, value in changes.items():
            if value is not None and name not in self._spans:
                parts += (b",", orjson.dumps(name), b":", value)
        return b"".join((b"{", *parts[1:], b"}"))

    def replaced(self, name: str, value: bytes) -> Members:
        """Return a copy with another value for an existing key. `value` must be JSON, but this is not checked.

        The attribute `shortened` of the copy contains the whole new value, even if it has long strings.
        """
        _, start, end = self._spans[name]
        growth = len(value) - (end - start)

        def moved(offset: int) -> int:
            return offset + growth if offset >= end else offset

        changed = Members.__new__(Members)
        changed.has_halves = self.has_halves
        changed._mentioned, changed._may_hide_names = {}, None  # noqa: SLF001 (of the same class)
        body = memoryview(self.body)
        changed.body = b"".join((body[:start], value, body[end:]))
        short = None if self._short is None else self._short.replaced(start, end, value)
        changed._short = short  # noqa: SLF001 (of the same class)
        changed.shortened = changed.body if short is None else short.text
        changed._spans = {  # noqa: SLF001 (of the same class)
            other: (moved(key), moved(value_start), moved(value_end))
            for other, (key, value_start, value_end) in self._spans.items()
        }
        return changed


_Spans = dict[str, tuple[int, int, int]]
"""Three offsets for each top-level key: the start of the key, the start of its value, and the end of its value."""


def _spans(body: bytes) -> tuple[_Spans, Shortened | None, bool]:
    """Return the offsets of all keys, the shortened body, and whether the body has lone halves of surrogate pairs.

    The shortened body has no inner parts of long strings. It is None if the body has no long strings or has lone
    halves. It is also None if the shortening would change a key or break the JSON. Raises `Refused` if the body is not
    a JSON object, has too many keys, or has a key twice.
    """
    try:
        raws = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _lenient_spans(body), None, True
    short = shortened(body)
    if short is not None and (spans := _short_spans(short, raws)) is not None:
        return spans, short, False
    return _located(body, raws), None, False


def _short_spans(short: Shortened, raws: Mapping[str, msgspec.Raw]) -> _Spans | None:
    """Return the offsets of all keys in the whole body. The keys are searched in the shortened body, because this is
    faster.

    `raws` has the keys of the whole body. Return None if the shortened body is not valid JSON or has other keys. Raises
    `Refused` if the body has too many keys, or has a key twice.
    """
    try:
        short_raws = _DECODER.decode(short.text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if short_raws.keys() != raws.keys():
        return None
    spans = _located(short.text, short_raws)
    # in the order of the body, so that all offsets are found in one pass over the cuts
    places = short.whole_places(offset for span in spans.values() for offset in span)
    return dict(zip(spans, zip(places, places, places, strict=True), strict=True))


def _lenient_spans(body: bytes) -> _Spans:
    """Return the offsets of all keys, for a body that msgspec does not decode because it has lone halves of surrogate
    pairs.

    Raises `Refused` if the body is not a JSON object, has too many keys, or has a key twice.
    """
    whole = lenient_json.without_surrogates(body)
    try:
        spans = _located(whole, _DECODER.decode(whole))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"the body is not a JSON object: {error}") from None
    except RecursionError:
        raise invalid("the body is not a JSON object that can be read: it is nested too deeply") from None
    named: _Spans = {}
    for key, start, end in spans.values():
        name = lenient_json.loads(body[key:start].rstrip(b": \t\r\n"))
        if name in named:
            raise _repeated(name)
        named[name] = (key, start, end)
    return named


def _located(body: bytes, raws: Mapping[str, msgspec.Raw]) -> _Spans:
    """Return the offsets of all keys. `raws` has the keys and values that msgspec has read from the body.

    Raises `Refused` if the body has too many keys, or has a key twice. msgspec keeps only the last value of a repeated
    key, so a comparison of `raws` with the body finds the key.
    """
    if len(raws) > MAX_MEMBERS:
        raise invalid(f"the body has {len(raws)} members at its top; at most {MAX_MEMBERS} are taken")
    spans: _Spans = {}
    at = body.index(b"{")
    for name, raw in raws.items():
        key = _KEY.match(body, at)
        # most keys have no escapes, so that their text is their name
        if key is None or (key[1] != name.encode() and _name(key) != name):
            raise _twice(body, at, spans)
        value, start = bytes(raw), key.end()
        at = start + len(value)
        if not body.startswith(value, start):
            raise _repeated(name)
        spans[name] = (key.start(1) - 1, start, at)
    if spans and _END.match(body, at) is None:
        raise _twice(body, at, spans)
    return spans


def _name(key: re.Match[bytes]) -> str:
    try:
        return str(orjson.loads(b'"%b"' % key[1]))
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is not a JSON object: a member's name cannot be read: {error}") from None


def _twice(body: bytes, at: int, passed: _Spans) -> Refused:
    """Return the error for a key that occurs twice in the body. The error names this key.

    msgspec keeps only the last value of a repeated key. So from some offset on, the body differs from what msgspec has
    read. This offset is `at`. `passed` has the keys before it.

    - If a key begins at `at`, this key is the repeated one.
    - Otherwise the last key in `passed` is the repeated one. For example, msgspec reads 1 as the value of `a` in the
      body `{"a": 12, "a": 1}`. The 12 begins with this 1, so `at` is the offset of the 2.
    """
    key = _KEY.match(body, at)
    return _repeated(next(reversed(passed), "") if key is None else _name(key))


def _repeated(name: str) -> Refused:
    text = name[:_SHOWN]
    return invalid(f'the body names "{text}" twice; send it once', text)
