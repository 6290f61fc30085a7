"""Where secrets stand in a configuration's text, and that text with marks in their place.

The text is never written anew: comments and layout stay as they are, and only what is secret becomes a mark. A mark is
an HMAC under a key of this gateway, so equal keys look equal and nobody can guess what is behind one by trying. How
marks become keys again is in `config/edit.py`. Nothing here reads a file or judges a configuration.
"""

from __future__ import annotations

import hmac
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path as FilePath
from typing import Final, Literal, NamedTuple

from gateway.config.document.hujson import Document, Path, String, Token, decoded, tokens
from gateway.config.document.macros import MACRO
from gateway.config.document.path_patterns import fits
from gateway.config.document.secrets import ENVIRONMENT_NAME, KEYFILE, file_of

MIN_ANYWHERE: Final = 8
"""Characters from which a secret is looked for everywhere; a shorter one could be any word."""
MARK: Final = re.compile(r"redacted:[0-9a-f]{32}")

Place = Literal["key", "url", "comment", "plain"]
"""A string that is secret by its key, a part of a URL in another one, a comment, or any other string or name."""
Role = tuple[str, ...]
"""What a string is for: its path without the names that people chose. Names of members have roles of their own."""

_NAME: Final = r"(?:(?:(?:api|access|private)[_-]?key|secret|passw|passphrase|pwd|credential)[\w-]{0,20}|tokens?)"
_SECRET_NAME: Final = re.compile(rf"(?i){_NAME}$")
_SECRET_LEAF: Final = re.compile(r"(?i)(?:^|[_-])(?:bearer|key)$")
"""As the name of a value alone; an object of that name holds anything."""
_SENT: Final = re.compile(r"(?i)(?:^|[_-])auth(?:orization)?$")
"""A header's value, or a word that says how a key is sent."""
_MODE: Final = re.compile(r"[a-z_-]{0,32}")
"""What `authorization` says in a provider; in `options` it may be a header with its value."""
_SECRET_HEADER: Final = re.compile(r"auth|cookie|key|token|secret|password|credential", re.IGNORECASE)
_HEADERS: Final = "add_headers"
_CHOSEN: Final = (
    ("providers", "*"),
    ("providers", "*", "base_models", "*"),
    ("providers", "*", "capabilities", "*"),
    ("providers", "*", "compatibility", "*"),
    ("hooks", "*"),
    ("quotas", "*"),
    ("mcp", "servers", "*"),
    ("connectors", "servers", "*"),
    ("model_aliases", "models", "*"),
)
"""Members whose names people choose: a provider may be called `token`."""
_SCHEME: Final = re.compile(r"(?:bearer|basic)\s+(?=\S)", re.IGNORECASE)
_MACRO: Final = re.compile(rf"(?i:(?:bearer|basic) )?{MACRO.pattern}")
_KEYFILE_PATH: Final = re.compile(r"(?:\.{0,2}|~)/.*")
_IN_URL: Final = (
    # a password, or the user where there is none: a token often stands alone
    re.compile(r"://[^/?#\s\"@:]*:(?P<secret>[^@\s\"/]+)@"),
    re.compile(r"://(?P<secret>[^/?#\s\"@:]+):?@"),
    re.compile(
        r"(?i)[?&#][\w.-]{0,40}?(?:token|key|secret|passw(?:or)?d|pwd|auth|sig|signature|credential|code)[\w-]{0,20}="
        r"(?P<secret>[^&#\s\"]+)"
    ),
)
_GAP: Final = r"\s*+(?://\s*+)?"
_SAID: Final = rf"(?i)(?:{_NAME}|(?<![a-z])(?:bearer|key))"
_HOW: Final = r"(?i)(?<![a-z])auth(?:orization)?"
_IN_QUOTES: Final = rf"[\"']?{_GAP}[:=]{_GAP}(?:\"(?P<%s>(?:[^\"\\\n]|\\.)+)\"|'(?P<%s_>[^'\n]+)')"
# what only a digit tells from prose is looked at once it is found: a look-ahead would read on from every start
_IN_COMMENT: Final = (
    re.compile(_SAID + _IN_QUOTES % ("secret", "secret")),
    re.compile(_HOW + _IN_QUOTES % ("sent", "sent")),
    re.compile(rf"{_SAID}\s*+[:=]\s*+(?P<word>[^\s\"',;]{{6,}})"),
    re.compile(r"(?i)\b(?:bearer|basic)\s+(?P<word>[\w+/.~=-]{8,})"),
    re.compile(r"\b(?P<secret>(?:sk-|ABSK|AKIA|ASIA|AIza|bedrock-api-key-)[\w+/=-]{12,})"),
    *_IN_URL,
)
"""What was commented out, and how well-known keys begin. Every pattern reads a text of any kind in one go."""
_DIGIT: Final = re.compile(r"[0-9]")
_HEADER_IN_COMMENT: Final = re.compile(r"(?<!\\)\"(?P<name>[\w-]+)\s*:\s*(?P<secret>(?:[^\"\\\n]|\\.)+)\"")


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
    roles: frozenset[Role] = frozenset()
    """Those of plain strings in which it stands in its document, within URLs or without."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without its secrets, and what its marks stand for."""

    text: str
    known: Mapping[str, Known]


def redact(document: Document, key: bytes, active: Iterable[str] = ()) -> Redacted:
    """The document's text with marks; `active` are secrets in use that may stand somewhere in it."""
    text = document.text
    role = roles(document)
    known: dict[str, Known] = {}
    parts: list[str] = []
    at = 0
    for span in spans(document, active):
        secret = text[span.start : span.end]
        mark = _mark(key, secret)
        before = known[mark].roles if mark in known else frozenset()
        mine = role(span.start) if span.place in {"plain", "url"} else None
        known[mark] = Known(secret, before if mine is None else before | {mine})
        parts += (text[at : span.start], mark)
        at = span.end
    # what already looks like a mark, in a file that was made from a redacted text, stands for itself
    for match in MARK.finditer(text):
        known.setdefault(match[0], Known(match[0]))
    return Redacted("".join([*parts, text[at:]]), known)


def roles(document: Document) -> Callable[[int], Role | None]:
    """What tells the role of the string, or of the member's name, around an offset; None elsewhere."""
    values = {string.start: string.path for string in document.strings}
    names = {at: (*path[:-1], "(name)") for path, at in document.offsets.items() if path and isinstance(path[-1], str)}
    strings = [piece for piece in tokens(document.text) if piece.kind == "string"]
    ranges = Ranges((piece.start, piece.end) for piece in strings)

    def role(offset: int) -> Role | None:
        around = ranges.around(offset)
        path = None if around is None else values.get(start := strings[around].start) or names.get(start)
        return None if path is None else _role(path)

    return role


def told(document: Document) -> set[str]:
    """The secrets that a document tells of by itself."""
    return {document.text[span.start : span.end] for span in spans(document)}


def spans(document: Document, active: Iterable[str] = ()) -> list[Span]:
    """All secrets of a document in the text's order, none within another."""
    text = document.text
    pieces = tokens(text)
    found = [span for string in document.strings for span in _in_string(text, string)]
    found += [span for start, end in _comments(pieces) for span in _in_comment(text, start, end)]
    secrets = _forms({*active, *(text[span.start : span.end] for span in found)})
    if secrets:
        hidden = _joined(found)
        search = _Search(secrets)
        found += [*_elsewhere(text, pieces, hidden, search), *_escaped(pieces, search)]
    return _joined(found)


def scrub(message: str, secrets: Iterable[str]) -> str:
    """A message without the secrets that it may quote."""
    return scrubber(secrets)(message)


def scrubber(secrets: Iterable[str]) -> Callable[[str], str]:
    """What scrubs many messages; the secrets are looked at once."""
    search = _Search(_forms(secrets))

    def scrubbed(message: str) -> str:
        parts: list[str] = []
        at = 0
        for start, end, _ in _joined(Span(*found, "plain") for found in search(message)):
            parts += (message[at:start], "[redacted]")
            at = end
        return "".join([*parts, message[at:]])

    return scrubbed


def is_secret(path: Path) -> bool:
    """A string there is a secret, going by the names of the members around it."""
    return any(
        isinstance(step, str) and _SECRET_NAME.search(step) and not _chosen(path, at) for at, step in enumerate(path)
    )


def is_reference(value: str) -> bool:
    """Says where a secret is, and is none: exactly what is looked up, and not sent as it stands.

    (`keyfile::` may also be followed by the service account itself.)
    """
    kind, colon, rest = value.partition(":")
    if colon and kind == "env":
        return bool(ENVIRONMENT_NAME.fullmatch(rest))
    if value.startswith(KEYFILE):
        return bool(_KEYFILE_PATH.fullmatch(value, len(KEYFILE)))
    return file_of(value, FilePath()) is not None or is_macro(value)


def is_macro(value: str) -> bool:
    return bool(_MACRO.fullmatch(value))


def _chosen(path: Path, at: int) -> bool:
    return fits(path[: at + 1], _CHOSEN)


def _role(path: Path) -> Role:
    return tuple(step for at, step in enumerate(path) if isinstance(step, str) and not _chosen(path, at))


def _mark(key: bytes, secret: str) -> str:
    return f"redacted:{hmac.digest(key, b'configuration mark:' + secret.encode(), 'sha256').hex()[:32]}"


def _in_string(text: str, string: String) -> Iterator[Span]:
    start, end = string.start + 1, string.end - 1
    inner = text[start:end]
    if _HEADERS in string.path:
        head, colon, rest = inner.partition(":")
        if colon and "\\" not in head:
            start = end - len(rest.lstrip())
        # such a value is sent as it stands: `env:` means nothing there
        if not is_macro(text[start:end]):
            yield Span(start, end, "key")
    elif is_secret(string.path) or _is_sent(string):
        if not is_reference(string.value):
            yield Span(start, end, "key")
    elif "\\" in inner:
        if any(pattern.search(string.value) for pattern in _IN_URL):
            yield Span(start, end, "url")
    else:
        for match in _found(inner, _IN_URL):
            if not is_macro(match["secret"]):
                yield Span(start + match.start("secret"), start + match.end("secret"), "url")


def _found(text: str, patterns: Iterable[re.Pattern[str]]) -> Iterator[re.Match[str]]:
    for pattern in patterns:
        yield from pattern.finditer(text)


def _is_sent(string: String) -> bool:
    """A secret by the name of the value alone."""
    path = string.path
    leaf = next((at for at in reversed(range(len(path))) if isinstance(path[at], str)), -1)
    if leaf < 0 or _chosen(path, leaf):
        return False
    name = str(path[leaf])
    in_headers = any(isinstance(step, str) and step.lower() == "headers" for step in path[:leaf])
    if _SECRET_LEAF.search(name) or (in_headers and _SECRET_HEADER.search(name)):
        return True
    return bool(_SENT.search(name)) and not _MODE.fullmatch(string.value)


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
    for match in _found(comment, _IN_COMMENT):
        group = match.lastgroup or ""
        if not _is_prose(match[group], group):
            yield Span(start + match.start(group), start + match.end(group), "comment")
    every = _HEADERS in comment
    for match in _HEADER_IN_COMMENT.finditer(comment):
        if (every or _SECRET_HEADER.search(match["name"])) and not is_macro(match["secret"]):
            yield Span(start + match.start("secret"), start + match.end("secret"), "comment")


def _is_prose(text: str, group: str) -> bool:
    """No secret, going by what the pattern's group says of it."""
    if group == "word" and not _DIGIT.search(text):
        return True
    return is_reference(text) or (group.startswith("sent") and bool(_MODE.fullmatch(text)))


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


class _Search:
    """Finds any of many texts in one pass: each begins with a few characters that are looked up."""

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


def _elsewhere(text: str, pieces: Iterable[Token], hidden: list[Span], search: _Search) -> Iterator[Span]:
    """Occurrences that no key tells of, outside of what is hidden already."""
    comments = Ranges((piece.start, piece.end) for piece in pieces if piece.kind == "comment")
    taken = Ranges((span.start, span.end) for span in hidden)
    for start, end in search(text):
        if not taken.holds(start):
            yield Span(start, end, "comment" if comments.holds(start) else "plain")


def _escaped(pieces: Iterable[Token], search: _Search) -> Iterator[Span]:
    """Strings and names that say a secret in other characters; they are hidden as a whole."""
    for piece in pieces:
        if piece.kind == "string" and "\\" in piece.text and any(search(decoded(piece))):
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
