"""A configuration's text with marks in the place of secrets, and messages without secrets.

- The text is never written anew: comments and layout stay, and only a secret becomes a mark.
- A mark is an HMAC under a key of this gateway: equal secrets have equal marks, and trying guesses shows nothing.
- Marks become secrets again in `config/edit.py`. Nothing here reads a file or judges a configuration.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.config.document.hujson import Document, Path, tokens
from gateway.config.document.secret_patterns import is_chosen
from gateway.config.document.secret_spans import Ranges, Search, Span, join_spans, spans, spellings

MARK: Final = re.compile(r"redacted:[0-9a-f]{32}")

Role = tuple[str, ...]
"""The purpose of a string: its path without the names that people chose. Names of members have roles of their own."""


class Known(NamedTuple):
    """The secret behind a mark."""

    text: str
    """The secret as it is spelled between its quotes."""
    roles: frozenset[Role] = frozenset()
    """Roles of the plain strings and URLs in which the secret stands in its document."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without its secrets, and the secrets by their marks."""

    text: str
    known: Mapping[str, Known]


def redact(document: Document, key: bytes, active: Iterable[str] = ()) -> Redacted:
    """Return the document's text with marks; `active` are secrets in use that may stand somewhere in the text."""
    text = document.text
    role = role_lookup(document)
    known: dict[str, Known] = {}
    parts: list[str] = []
    at = 0
    for span in spans(document, active):
        secret = text[span.start : span.end]
        mark = _mark(key, secret)
        before = known[mark].roles if mark in known else frozenset()
        own = role(span.start) if span.place in {"plain", "url"} else None
        known[mark] = Known(secret, before if own is None else before | {own})
        parts += (text[at : span.start], mark)
        at = span.end
    # text that already looks like a mark, in a file that was made from a redacted text, stands for itself
    for match in MARK.finditer(text):
        known.setdefault(match[0], Known(match[0]))
    return Redacted("".join([*parts, text[at:]]), known)


def role_lookup(document: Document) -> Callable[[int], Role | None]:
    """Return a function from an offset to the role of the string or member name around it, or to None."""
    values = {string.start: string.path for string in document.strings}
    names = {at: (*path[:-1], "(name)") for path, at in document.offsets.items() if path and isinstance(path[-1], str)}
    strings = [piece for piece in tokens(document.text) if piece.kind == "string"]
    ranges = Ranges((piece.start, piece.end) for piece in strings)

    def role(offset: int) -> Role | None:
        around = ranges.around(offset)
        path = None if around is None else values.get(start := strings[around].start) or names.get(start)
        return None if path is None else _role(path)

    return role


def scrub(message: str, secrets: Iterable[str]) -> str:
    """Return a message without the secrets that it may quote."""
    return scrubber(secrets)(message)


def scrubber(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that scrubs many messages; the secrets are prepared once."""
    search = Search(spellings(secrets))

    def scrub_one(message: str) -> str:
        parts: list[str] = []
        at = 0
        for start, end, _ in join_spans(Span(*span, "plain") for span in search(message)):
            parts += (message[at:start], "[redacted]")
            at = end
        return "".join([*parts, message[at:]])

    return scrub_one


def _role(path: Path) -> Role:
    return tuple(step for at, step in enumerate(path) if isinstance(step, str) and not is_chosen(path[: at + 1]))


def _mark(key: bytes, secret: str) -> str:
    return f"redacted:{hmac.digest(key, b'configuration mark:' + secret.encode(), 'sha256').hex()[:32]}"
