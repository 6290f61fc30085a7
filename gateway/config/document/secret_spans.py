"""Finds the offsets of secrets in a document's text.

The patterns in `secret_patterns.py` recognise secrets. Other occurrences of the same secrets are found too, with or
without JSON escapes. `redact.py` replaces the secrets by marks.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final, Literal, NamedTuple

from gateway.config.document.hujson import Document, String, Token, string_value, tokens
from gateway.config.document.secret_patterns import (
    has_secret_in_url,
    is_header,
    is_macro,
    is_reference,
    is_secret,
    is_secret_value,
    secrets_in_comment,
    secrets_in_url,
)

MIN_ANYWHERE: Final = 8
"""Minimum length in characters of a secret that is searched for in the whole text. A shorter one could be any word."""

Place = Literal["key", "url", "comment", "plain"]
"""The place where a secret was found:

- `key`: in a string whose JSON key, such as `apikey`, says that the string is secret;
- `url`: in a URL in another string;
- `comment`: in a comment;
- `plain`: in any other string or JSON key.
"""

_SCHEME: Final = re.compile(r"(?:bearer|basic)\s+(?=\S)", re.IGNORECASE)


class Span(NamedTuple):
    """The range of a secret in the text. `end` is exclusive."""

    start: int
    end: int
    place: Place


class Ranges:
    """Ranges of offsets, sorted and without overlaps."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._ranges = list(ranges)

    def holds(self, offset: int) -> bool:
        return self.around(offset) is not None

    def around(self, offset: int) -> int | None:
        """Return the index of the range that contains an offset, or None."""
        at = bisect_right(self._ranges, offset, key=itemgetter(0)) - 1
        return at if at >= 0 and offset < self._ranges[at][1] else None


def spans(document: Document, active: Iterable[str] = ()) -> list[Span]:
    """Return the ranges of all secrets in a document's text, sorted and without overlaps.

    `active` are the secrets in use. Their ranges are returned even if no pattern recognises them as secrets.
    """
    text = document.text
    pieces = tokens(text)
    by_place = [span for string in document.strings for span in _in_string(text, string)]
    by_place += [
        Span(start + left, start + right, "comment")
        for start, end in _comments(pieces)
        for left, right in secrets_in_comment(text[start:end])
    ]
    hidden = join_spans(by_place)
    secrets = spellings({*active, *(text[span.start : span.end] for span in by_place)})
    if not secrets:
        return hidden
    search = Search(secrets)
    return join_spans([*by_place, *_elsewhere(text, pieces, hidden, search), *_escaped(pieces, search)])


def secrets_in(document: Document) -> set[str]:
    """Return the secrets that the patterns recognise in the document's text. JSON escapes are not decoded."""
    return {document.text[span.start : span.end] for span in spans(document)}


def spellings(secrets: Iterable[str]) -> frozenset[str]:
    """Return all spellings of the secrets: with and without JSON escapes, and with and without `Bearer` or `Basic`.

    The result has no texts shorter than `MIN_ANYWHERE`.
    """
    forms: set[str] = set()
    for secret in secrets:
        for text in (secret, _SCHEME.sub("", secret)):
            forms |= {text, _unescaped(text), json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return frozenset(form for form in forms if len(form) >= MIN_ANYWHERE)


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order. Spans that overlap are replaced by one span, which has the `place` of the first of
    them.
    """
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Span(last.start, max(last.end, span.end), last.place)
        elif span.end > span.start:
            merged.append(span)
    return merged


class Search:
    """Finds all occurrences of many secrets in one pass over a text."""

    def __init__(self, secrets: frozenset[str]) -> None:
        self._secrets = secrets
        self._lengths: dict[str, set[int]] = {}
        for secret in secrets:
            self._lengths.setdefault(secret[:MIN_ANYWHERE], set()).add(len(secret))

    def __call__(self, text: str) -> Iterator[tuple[int, int]]:
        lengths, secrets = self._lengths, self._secrets
        for at in range(len(text) - MIN_ANYWHERE + 1):
            for length in lengths.get(text[at : at + MIN_ANYWHERE], ()):
                if text[at : at + length] in secrets:
                    yield at, at + length


def _in_string(text: str, string: String) -> Iterator[Span]:
    start, end = string.start + 1, string.end - 1
    inner = text[start:end]
    if is_header(string.path):
        head, colon, rest = inner.partition(":")
        if colon and "\\" not in head:
            start = end - len(rest.lstrip())
        # a header's value is sent as it is written, so `env:` in it is no reference
        if not is_macro(text[start:end]):
            yield Span(start, end, "key")
    elif is_secret(string.path) or is_secret_value(string):
        if not is_reference(string.value):
            yield Span(start, end, "key")
    elif "\\" in inner:
        if has_secret_in_url(string.value):
            yield Span(start, end, "url")
    else:
        for left, right in secrets_in_url(inner):
            yield Span(start + left, start + right, "url")


def _comments(pieces: Iterable[Token]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of comments. Comments with only blanks between them are one range."""
    start = end = -1
    for piece in pieces:
        if piece.kind == "comment":
            start, end = (start if start >= 0 else piece.start), piece.end
        elif piece.kind != "blank" and start >= 0:
            yield start, end
            start = -1
    if start >= 0:
        yield start, end


def _elsewhere(text: str, pieces: Iterable[Token], hidden: list[Span], search: Search) -> Iterator[Span]:
    """Yield the occurrences of secrets that begin outside of the spans in `hidden`."""
    comments = Ranges((piece.start, piece.end) for piece in pieces if piece.kind == "comment")
    taken = Ranges((span.start, span.end) for span in hidden)
    for start, end in search(text):
        if not taken.holds(start):
            yield Span(start, end, "comment" if comments.holds(start) else "plain")


def _escaped(pieces: Iterable[Token], search: Search) -> Iterator[Span]:
    """Yield the ranges of strings and object keys that contain a secret after their JSON escapes are decoded."""
    for piece in pieces:
        if piece.kind == "string" and "\\" in piece.text and any(search(string_value(piece))):
            yield Span(piece.start + 1, piece.end - 1, "plain")


def _unescaped(text: str) -> str:
    """Return the text with its JSON escapes decoded, or unchanged if it has none or is not a valid JSON string."""
    if "\\" not in text:
        return text
    try:
        value = json.loads(f'"{text}"')
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, str) else text
