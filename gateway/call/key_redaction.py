"""Removes the gateway's keys from everything that a provider sends back: headers, bodies, events and errors.

Some providers repeat a key in an error, in a header, or in a log line that a model reads. A key is found in plain form,
with characters escaped as in JSON or in a URL, and inside base64. In a stream, a key is also found if it is split
across consecutive events.

There are two limits. If a key is split between two events and its first part has less than `KNOWN_BY` characters, that
part is not removed. A key in two nested encodings (base64 of an escaped key) is not found.

A reply without a key costs little time, because its bytes are only searched a few times.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, Final, TypeVar

import orjson
from yarl import URL

from gateway.contract.errors import BadFrame, UpstreamFailed
from gateway.contract.flag import Event, Head

E = TypeVar("E", bound=UpstreamFailed)

SHORTEST_KEY: Final = 16
"""Minimum length in characters of an API key that is removed. A shorter key may also be an ordinary word in a reply,
such as `not-needed`, a usual placeholder for local servers."""
KNOWN_BY: Final = 8
"""Number of characters at the beginning or the end of a key that are enough to recognise a part of the key."""
MAX_MESSAGE: Final = 64 * 1024
"""Maximum number of characters of a provider's error message in the reply to the client."""
MARK: Final = b"[redacted]"
_PACKED: Final = b'"bytes"'
"""The JSON key of the base64 payload in a stream frame of Bedrock's InvokeModel API."""

_SECRET_NAMED: Final = re.compile(r"auth|cookie|key|token|secret|passw|pwd|credential|signature|jwt", re.IGNORECASE)
"""Pattern for the names of headers and URL parameters whose values are keys."""
_PARTS: Final = re.compile(r"[\s,;]+")
_NAMED_PART: Final = re.compile(r"\w+=(.+)")
"""Pattern for a part of AWS's `authorization` header, such as `Signature=…`."""
_MAX_CACHED: Final = 256
"""Maximum number of cached `Redaction` objects. There is one object for each provider and each set of headers that the
gateway adds to the provider's requests.
"""
_WORD: Final = re.compile(r"[A-Za-z0-9]+")
_HEAD: Final = re.compile(r"[A-Za-z0-9]{1,4}")


def secrets_of(
    apikey: str, baseurl: str, headers: Iterable[tuple[str, str]], others: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the keys to remove from a provider's replies: `apikey`, `others`, and keys in the URL and the headers.

    `headers` are the headers that the gateway adds to the request. `others` are the provider's other keys, because a
    reply may name another key of the same account. Keys of less than `SHORTEST_KEY` characters are left out.
    """
    values = [apikey, *others]
    for name, value in headers:
        if _SECRET_NAMED.search(name):
            values += _parts(value)
    if "@" in baseurl or "?" in baseurl:
        url = URL(baseurl)
        values += [url.password or "", *(value for name, value in url.query.items() if _SECRET_NAMED.search(name))]
    # the longest first: if one key contains another, the longer one must be removed as a whole
    return tuple(sorted({value for value in values if len(value) >= SHORTEST_KEY}, key=len, reverse=True))


def _parts(value: str) -> list[str]:
    """Return the parts of a header's value that may be keys. Examples of values: `Bearer KEY`, `Basic BASE64`,
    `Credential=ID/…` (AWS).
    """
    parts = [part for part in _PARTS.split(value) if part]
    named = [match[1] for part in parts if (match := _NAMED_PART.fullmatch(part))]
    return [*parts, *named, *(part.partition("/")[0] for part in named if "aws4_request" in part)]


@lru_cache(maxsize=_MAX_CACHED)
def redaction(
    apikey: str, baseurl: str, headers: tuple[tuple[str, str], ...], others: tuple[str, ...] = ()
) -> Redaction:
    """Return the `Redaction` that removes `apikey`, `others`, and the keys in `baseurl` and `headers`.

    `headers` are the headers that the gateway adds to the request. `others` are the provider's other keys.
    """
    return Redaction(secrets_of(apikey, baseurl, headers, others))


class Redaction:
    """Removes the keys in `secrets` from bytes, headers and errors."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self.secrets = secrets
        self.keys = [secret.encode("utf-8", "surrogateescape") for secret in secrets]
        self._encoded = [form for key in self.keys for form in base64_forms(key)]
        self._signs = list(dict.fromkeys(sign for secret in secrets for sign in _signs(secret)))
        self.overlap = max(map(len, self._signs), default=1) - 1
        """Number of bytes at the end of a read that are searched again together with the next read. A key may be split
        there."""

    @cached_property
    def _all_patterns(self) -> list[re.Pattern[bytes]]:
        """The patterns of the keys, compiled at first use. Compiling takes 10 ms or more for a long key."""
        return [pattern for secret in self.secrets for pattern in _patterns(secret)]

    def suspects(self, data: bytes) -> bool:
        """Return whether `data` may contain a key or a part of a key. The check is fast, and rarely true for other
        data.
        """
        return any(map(data.count, self._signs))  # `in` takes three times as long as `count`

    def bytes(self, data: bytes) -> bytes:
        if not self.suspects(data):
            return data
        for pattern in self._all_patterns:
            data = pattern.sub(MARK, data)
        for form in self._encoded:
            data = data.replace(form, MARK)
        return data

    def text(self, text: str) -> str:
        return self.bytes(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def head(self, head: Head) -> Head:
        """Return a reply's status and headers, with the gateway's keys removed from the headers' values."""
        joined = "\n".join(head.headers.values()).encode("utf-8", "surrogateescape")
        if not self.suspects(joined):
            return head
        return replace(head, headers={name: self._header(value) for name, value in head.headers.items()})

    def _header(self, value: str) -> str:
        return self.bytes(value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def failure(self, error: E) -> E:
        """Remove the gateway's keys from an error of the provider, and return the same error.

        If the error is an event of a stream whose bytes (`raw`) contain a key, these bytes are discarded, because the
        frame's checksum would be wrong. The error is then written by the plugin of the client's API.
        """
        problem = error.problem
        error.problem = replace(
            problem,
            message=self.text(problem.message[:MAX_MESSAGE]),
            native=self.text(problem.native),
            reason=self.text(problem.reason),
            param=self.text(problem.param),
        )
        raw = self.bytes(error.raw)
        if raw != error.raw:
            error.raw = raw if error.status else b""
        return error


def _patterns(secret: str) -> list[re.Pattern[bytes]]:
    """Return patterns that match the key `secret`, even with escaped characters in it.

    Each pattern begins with fixed bytes, so that the search is fast.
    """
    first, rest = secret[0], secret[1:]
    head = match[0] if (match := _HEAD.match(secret)) else first
    plain = re.escape(_utf8(head)) + b"".join(map(any_form, secret[len(head) :]))
    tail = b"".join(map(any_form, rest))
    return [re.compile(form + tail) for form in _escapes(first)] + [re.compile(plain)]


def any_form(character: str) -> bytes:
    """Return a pattern that matches a character in any of its forms: plain, escaped as in JSON, or percent-encoded."""
    return b"(?:%b)" % b"|".join([re.escape(_utf8(character)), *_escapes(character), *_SHORT.get(character, ())])


_SHORT: Final[Mapping[str, tuple[bytes, ...]]] = {"/": (rb"\\+/",), '"': (rb'\\+"',), "\\": (rb"\\+",)}


def _escapes(character: str) -> list[bytes]:
    """Return patterns for a character escaped as in JSON and as in a URL. Hexadecimal digits may have either case.

    A pattern allows several backslashes, because JSON text may be nested in JSON text.
    """
    hexadecimal = f"{ord(character):04x}" if ord(character) <= 0xFFFF else ""
    percent = b"".join(b"%" + _either_case(f"{byte:02x}") for byte in _utf8(character))
    return [rb"\\+u" + _either_case(hexadecimal), percent] if hexadecimal else [percent]


def _either_case(digits: str) -> bytes:
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits).encode()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def base64_forms(key: bytes) -> list[bytes]:
    """Return the base64 texts by which a key can be recognised inside longer encoded data.

    The text depends on the key's offset modulo 3. So there are three texts for each of the two base64 alphabets.
    """
    forms = []
    for shift, mixed in enumerate((0, 2, 3)):  # `mixed` characters also depend on preceding bytes
        complete = (shift + len(key)) * 8 // 6
        encoded = base64.b64encode(bytes(shift) + key)[mixed:complete]
        forms += [encoded, encoded.translate(_URL_SAFE)]
    return list(dict.fromkeys(forms))


def _signs(secret: str) -> list[bytes]:
    """Return byte strings (signs) such that all data with the key, or with a large part of it, contains one of them.

    A search for the signs is much faster than a search for the key in all its forms.
    """
    key = _utf8(secret)
    ends = [key[:KNOWN_BY], key[-KNOWN_BY:]]
    longest = max(_WORD.findall(secret) or [secret], key=len)[:KNOWN_BY]  # no encoding changes letters and digits alone
    escaped = [f"{form}{ord(secret[0]):0{size}x}" for form, size in (("\\u", 4), ("%", 2))]
    encoded = [form for end in ends for form in base64_forms(end)]
    upper = [f"{sign[:2]}{sign[2:].upper()}" if sign[0] == "\\" else sign.upper() for sign in escaped]
    return [*ends, _utf8(longest), *encoded, *map(_utf8, escaped), *map(_utf8, upper)]


_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class EventRedaction:
    """Removes the gateway's keys from the events of a stream, even if a key is split across consecutive events.

    At first, only the bytes of the stream are searched for signs of a key. Once there is a sign, each event is decoded
    and searched. An event that ends with the beginning of a key is held back, until the next event shows whether the
    rest of the key follows.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._end = b""
        """The last bytes of the stream so far. A sign of a key may begin in these bytes and end in the next read."""
        self._suspect = False
        self._packed = False
        """Whether the stream has a frame of Bedrock's InvokeModel API. The base64 of such a frame may hide an escaped
        key."""
        self._ends = [(key[:KNOWN_BY], key[-KNOWN_BY:]) for key in redaction.keys]
        self._held: list[Event] = []

    def feed(self, data: bytes, events: Iterable[Event]) -> Iterable[Event]:
        """Return the events that `data` completes, without the gateway's keys."""
        self.look(data)
        return self.clean(events)

    def look(self, data: bytes) -> None:
        """Search the next bytes of the stream for signs of a key. `clean` searches the events only if there was a
        sign.
        """
        if not self._suspect:
            window = self._end + data
            self._suspect = self._redaction.suspects(window)
            self._end = window[-self._redaction.overlap :]
        self._packed = self._packed or data.find(_PACKED) >= 0

    def clean(self, events: Iterable[Event]) -> Iterable[Event]:
        """Return the events without the gateway's keys. Call `look` with the bytes of these events before."""
        return self._redacted(events) if self._suspect or self._packed else events

    def _redacted(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if not self._suspect and not self._redaction.suspects(event.payload):
                yield event
                continue
            self._suspect = True
            clean = self._without_keys(event)
            if self._held or any(head in clean.payload or tail in clean.payload for head, tail in self._ends):
                yield from self._join(clean)
            else:
                yield clean

    def rest(self) -> Iterator[Event]:
        """Yield the events that were held back."""
        held, self._held = self._held, []
        yield from held

    def _without_keys(self, event: Event) -> Event:
        """Return an event without the gateway's keys (credentials for the provider).

        If the event had a key, its raw bytes are discarded, because the checksum of the frame would be wrong. The
        encoder of the client's API then writes a new frame. A comment (an event without a payload) that had a key is
        left out.
        """
        payload = self._redaction.bytes(event.payload)
        raw = event.raw or b""
        if payload == event.payload and self._redaction.bytes(raw) == raw:
            return event
        return Event(event.kind, payload, None if payload else b"")

    def _join(self, event: Event) -> Iterator[Event]:
        """Hold an event back, because the next event may complete a key. If no key can begin in the held events, yield
        them all.
        """
        if not event.payload:  # a comment may come between two parts of a key
            yield event
            return
        self._held.append(event)
        if len(self._held) > 1 or any(tail in event.payload for _, tail in self._ends):
            self._held = _without_parts(self._held, self._redaction.keys)
        if not _begins_key(self._held, self._redaction.keys):
            yield from self.rest()


def _without_parts(events: list[Event], keys: Sequence[bytes]) -> list[Event]:
    """Return consecutive events without the API keys that are split across their strings. Unchanged events keep their
    bytes.
    """
    try:
        values = [event.data for event in events]
    except BadFrame:
        return events
    for key in (key.decode("utf-8", "replace") for key in keys):
        found = _parts_of(values, key)
        for at, change in found.items():
            values[at] = _mapped(values[at], change)
        if found:
            events = [
                Event(event.kind, orjson.dumps(values[at]), None) if at in found else event
                for at, event in enumerate(events)
            ]
    return events


def _parts_of(values: Sequence[Any], key: str) -> dict[int, Callable[[str], str]]:
    """Find an API key that is split across consecutive values, such as the data of events.

    The result has an entry for each value that contains a part of the key: the index of the value, and a function that
    removes this part from a string. It is empty if no key is found.
    """
    last = len(values) - 1
    for size in range(len(key) - KNOWN_BY, 0, -1):  # an earlier event with the beginning of the key may have been sent
        if len(values) == 1 and _has(values[0], key[size:], str.startswith):
            return {0: _cut_start(key[size:])}
    for size in range(len(key) - 1, KNOWN_BY - 1, -1):
        if not _has(values[0], key[:size], str.endswith):
            continue
        changes = {0: _cut_end(key[:size])}
        rest = key[size:]
        for at in range(1, last + 1):
            if _has(values[at], rest, str.startswith):
                return changes | {at: _cut_start(rest)}
            piece = max((text for text in _strings(values[at]) if rest.startswith(text)), key=len, default="")
            if not piece:
                break
            changes[at] = _cut_start(piece)
            rest = rest[len(piece) :]
    return {}


def _begins_key(events: Sequence[Event], keys: Sequence[bytes]) -> bool:
    """Return whether the first of these events may end with the beginning of a key that is not complete yet, so that a
    later event may have the rest.
    """
    try:
        values = [event.data for event in events]
    except BadFrame:
        return False
    for key in (key.decode("utf-8", "replace") for key in keys):
        for size in range(KNOWN_BY, len(key)):
            if _has(values[0], key[:size], str.endswith) and _goes_on(values[1:], key[size:]):
                return True
    return False


def _goes_on(values: Sequence[Any], rest: str) -> bool:
    for value in values:
        piece = max((text for text in _strings(value) if rest.startswith(text) and text != rest), key=len, default="")
        if not piece:
            return False
        rest = rest[len(piece) :]
    return True


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _has(value: Any, part: str, test: Callable[[str, str], bool]) -> bool:
    return any(test(text, part) for text in _strings(value))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(inner, change) for name, inner in value.items()}
    return [_mapped(inner, change) for inner in value] if isinstance(value, list) else value


def _cut_end(part: str) -> Callable[[str], str]:
    return lambda text: text.removesuffix(part) + MARK.decode() if text.endswith(part) else text


def _cut_start(part: str) -> Callable[[str], str]:
    return lambda text: text.removeprefix(part)
