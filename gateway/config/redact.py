"""Where secrets stand in a configuration's text, and that text with marks in their place.

The text is never written anew: comments and layout stay as they are, and only what is secret becomes a mark. A mark is
an HMAC under a key of this gateway, so equal keys look equal and nobody can guess what is behind one by trying. How
marks become keys again is in `edit.py`. Nothing here reads a file or judges a configuration.
"""

from __future__ import annotations

import hmac
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Literal, NamedTuple

from gateway.config.hujson import Document, Path, String, Token, decoded, tokens
from gateway.config.model import Config

MIN_ANYWHERE: Final = 8
"""Characters from which a secret is looked for everywhere; a shorter one could be any word."""
MARK: Final = re.compile(r"redacted:[0-9a-f]{32}")
MARK_LENGTH: Final = 41

Place = Literal["key", "comment", "plain"]
"""A string that is secret by its key, a comment, or any other string or member's name."""

_NAME: Final = r"(?:(?:(?:api|access|private)[_-]?key|secret|passw|passphrase|credential)[\w-]{0,20}|tokens?)"
_SECRET_NAME: Final = re.compile(rf"(?i){_NAME}$")
_MODE: Final = re.compile(r"[a-z-]{0,32}")
"""What `authorization` says in a provider; in `options` it may be a header with its value."""
_SECRET_HEADER: Final = re.compile(r"authorization|cookie|key|token|secret|password|credential", re.IGNORECASE)
_HEADERS: Final = "add_headers"
_CHOSEN: Final[Mapping[str, int]] = {"providers": 1, "hooks": 1, "quotas": 1, "mcp": 2, "connectors": 2}
"""Sections whose members at this depth have names that people choose: a provider may be called `token`."""
_REFERENCE: Final = re.compile(
    r"env:[A-Za-z_]\w*|file:.*|keyfile::(?:\.{0,2}|~)/.*|(?:(?:bearer|basic) )?\$\{\w+\}", re.IGNORECASE
)
"""Says where a secret is, and is none. (`keyfile::` may also be followed by the service account itself.)"""
_SCHEME: Final = re.compile(r"(?:bearer|basic)\s+(?=\S)", re.IGNORECASE)
_IN_URL: Final = re.compile(r"://[^/\s\"@:]*:([^@\s\"/]+)@")
_GAP: Final = r"\s*(?://\s*)?"
_IN_COMMENT: Final = (
    re.compile(rf"(?i){_NAME}[\"']?{_GAP}[:=]{_GAP}\"(?P<secret>(?:[^\"\\\n]|\\.)+)\""),
    re.compile(rf"(?i){_NAME}[\"']?{_GAP}[:=]{_GAP}'(?P<secret>[^'\n]+)'"),
    re.compile(rf"(?i){_NAME}\s*[:=]\s*(?P<secret>(?=[^\s\"']*[0-9])[^\s\"',;]{{6,}})"),
    re.compile(r"\b(?P<secret>(?:sk-|ABSK|AKIA|ASIA|AIza|bedrock-api-key-)[\w+/=-]{12,})"),
)
"""What was commented out, and how well-known keys begin."""
_HEADER_IN_COMMENT: Final = re.compile(r"\"(?P<name>[\w-]+)\s*:\s*(?P<secret>(?:[^\"\\\n]|\\.)+)\"")


class Span(NamedTuple):
    """A secret's text, from `start` to `end`."""

    start: int
    end: int
    place: Place


class Ranges:
    """Ranges of offsets, in order and apart from each other."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._ranges = list(ranges)

    def holds(self, offset: int) -> bool:
        return self.around(offset) is not None

    def around(self, offset: int) -> int | None:
        """The number of the range that holds an offset."""
        at = bisect_right(self._ranges, offset, key=itemgetter(0)) - 1
        return at if at >= 0 and offset < self._ranges[at][1] else None


class Known(NamedTuple):
    """What a mark stands for."""

    text: str
    """As it is spelled between the quotes."""
    plain: bool
    """It stands in a plain string or name of its document too."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without its secrets, and what its marks stand for."""

    text: str
    known: Mapping[str, Known]


def redact(document: Document, key: bytes, active: Iterable[str] = ()) -> Redacted:
    """The document's text with marks; `active` are secrets in use that may stand somewhere in it."""
    text = document.text
    known: dict[str, Known] = {}
    parts: list[str] = []
    at = 0
    for span in spans(document, active):
        secret = text[span.start : span.end]
        mark = _mark(key, secret)
        plain = span.place == "plain" or (mark in known and known[mark].plain)
        known[mark] = Known(secret, plain)
        parts += (text[at : span.start], mark)
        at = span.end
    # what already looks like a mark, in a file that was made from a redacted text, stands for itself
    for match in MARK.finditer(text):
        known.setdefault(match[0], Known(match[0], plain=True))
    return Redacted("".join([*parts, text[at:]]), known)


def spans(document: Document, active: Iterable[str] = ()) -> list[Span]:
    """All secrets of a document in the text's order, none within another."""
    text = document.text
    pieces = tokens(text)
    found = [span for string in document.strings for span in _in_string(text, string)]
    found += [span for start, end in _comments(pieces) for span in _in_comment(text, start, end)]
    secrets = _forms({*active, *(text[span.start : span.end] for span in found)})
    if secrets:
        hidden = _joined(found)
        found += [*_elsewhere(text, pieces, hidden, secrets), *_escaped(pieces, secrets)]
    return _joined(found)


def scrub(message: str, secrets: Iterable[str]) -> str:
    """A message without the secrets that it may quote."""
    for secret in sorted(_forms(secrets), key=len, reverse=True):
        message = message.replace(secret, "[redacted]")
    return message


def active_secrets(config: Config) -> frozenset[str]:
    """The secrets that a configuration uses, wherever they came from."""
    providers = config.providers.values()
    headers = [provider.add_headers for provider in providers]
    headers += [capability.add_headers for grant in config.grants for capability in grant.capabilities]
    values = (value for entries in headers for _, value in entries)
    return frozenset(filter(None, [*(provider.apikey.value for provider in providers), *values]))


def is_secret(path: Path) -> bool:
    """A string there is a secret, going by the names of the members around it."""
    chosen = _CHOSEN.get(str(path[0]), -1) if path else -1
    return any(isinstance(step, str) and at != chosen and _SECRET_NAME.search(step) for at, step in enumerate(path))


def is_reference(value: str) -> bool:
    return bool(_REFERENCE.fullmatch(value.strip()))


def _mark(key: bytes, secret: str) -> str:
    return f"redacted:{hmac.digest(key, b'configuration mark:' + secret.encode(), 'sha256').hex()[:32]}"


def _in_string(text: str, string: String) -> Iterator[Span]:
    start, end = string.start + 1, string.end - 1
    inner = text[start:end]
    if _HEADERS in string.path:
        head, colon, rest = inner.partition(":")
        if colon and "\\" not in head:
            start = end - len(rest.lstrip())
        if not is_reference(text[start:end]):
            yield Span(start, end, "key")
    elif is_secret(string.path) or _is_authorization(string):
        if not is_reference(string.value):
            yield Span(start, end, "key")
    else:
        for match in _IN_URL.finditer(inner):
            yield Span(start + match.start(1), start + match.end(1), "key")


def _is_authorization(string: String) -> bool:
    name = string.path[-1] if string.path else ""
    return isinstance(name, str) and name.lower() == "authorization" and not _MODE.fullmatch(string.value)


def _comments(pieces: Iterable[Token]) -> Iterator[tuple[int, int]]:
    """Comments, those that only blanks keep apart together: a block that was commented out line by line is one."""
    start = end = -1
    for piece in pieces:
        if piece.kind == "comment":
            start, end = (start if start >= 0 else piece.start), piece.end
        elif piece.kind != "blank" and start >= 0:
            yield start, end
            start = -1
    if start >= 0:
        yield start, end


def _in_comment(text: str, start: int, end: int) -> Iterator[Span]:
    comment = text[start:end]
    patterns = [*_IN_COMMENT, _IN_URL]
    for pattern in patterns:
        for match in pattern.finditer(comment):
            group = "secret" if "secret" in pattern.groupindex else 1
            if not is_reference(match[group]):
                yield Span(start + match.start(group), start + match.end(group), "comment")
    every = _HEADERS in comment
    for match in _HEADER_IN_COMMENT.finditer(comment):
        if (every or _SECRET_HEADER.search(match["name"])) and not is_reference(match["secret"]):
            yield Span(start + match.start("secret"), start + match.end("secret"), "comment")


def _forms(secrets: Iterable[str]) -> frozenset[str]:
    """How a secret may be spelled, as far as it is long enough to be looked for."""
    forms: set[str] = set()
    for secret in secrets:
        for text in (secret, _SCHEME.sub("", secret)):
            forms |= {text, _plain(text), json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return frozenset(form for form in forms if len(form) >= MIN_ANYWHERE)


def _plain(text: str) -> str:
    """What a spelling with escapes says."""
    if "\\" not in text:
        return text
    try:
        value = json.loads(f'"{text}"')
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, str) else text


def _elsewhere(text: str, pieces: Iterable[Token], hidden: list[Span], secrets: frozenset[str]) -> Iterator[Span]:
    """Occurrences that no key tells of, outside of what is hidden already."""
    comments = Ranges((piece.start, piece.end) for piece in pieces if piece.kind == "comment")
    taken = Ranges((span.start, span.end) for span in hidden)
    for secret in secrets:
        at = text.find(secret)
        while at >= 0:
            if not taken.holds(at):
                yield Span(at, at + len(secret), "comment" if comments.holds(at) else "plain")
            at = text.find(secret, at + 1)


def _escaped(pieces: Iterable[Token], secrets: frozenset[str]) -> Iterator[Span]:
    """Strings and names that say a secret in other letters; they are hidden as a whole."""
    for piece in pieces:
        if piece.kind == "string" and "\\" in piece.text:
            said = decoded(piece)
            if any(secret in said for secret in secrets):
                yield Span(piece.start + 1, piece.end - 1, "plain")


def _joined(found: Iterable[Span]) -> list[Span]:
    """In order, without what lies in an earlier one; what overlaps becomes one."""
    merged: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start, -span.end)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Span(last.start, max(last.end, span.end), last.place)
        elif span.end > span.start:
            merged.append(span)
    return merged
