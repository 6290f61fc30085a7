"""Hides secrets: by marks in a configuration's text, and by `[redacted]` in messages.

- Only secrets are replaced. Comments and layout of the text stay unchanged.
- A mark is an HMAC of the secret with a key that only this gateway has. Equal secrets have equal marks, but nobody
  without the key can verify a guess.
- `config/edit.py` turns marks back into secrets. Nothing here reads a file or checks a configuration.
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
"""The purpose of a string in a document: its path without indexes and without names that people chose.

For example, the API key of any provider has the role `("providers", "apikey")`. The role of a JSON key is the path of
the object that has the key, followed by `(name)`.
"""


class Known(NamedTuple):
    """The secret that a redaction mark stands for."""

    text: str
    """The secret as the document spells it, with escapes and without quotes."""
    roles: frozenset[Role] = frozenset()
    """The purposes of the strings in which the secret was found, although their JSON keys do not show that they are
    secret. An example is a `baseurl` with a password.
    """


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text with a redaction mark in place of each secret, and a mapping from each mark to its secret."""

    text: str
    known: Mapping[str, Known]


def redact(document: Document, key: bytes, active: Iterable[str] = ()) -> Redacted:
    """Return the document's text with a mark in place of each secret.

    `active` are the secrets that the gateway uses now. They are replaced wherever they occur in the text.
    """
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
    # if the document was made from a redacted text, it contains marks itself; such a mark stands for its own text
    for match in MARK.finditer(text):
        known.setdefault(match[0], Known(match[0]))
    return Redacted("".join([*parts, text[at:]]), known)


def role_lookup(document: Document) -> Callable[[int], Role | None]:
    """Return a function that maps an offset to the purpose (`Role`) of the string at this offset.

    The string may be a value or a JSON key. The function returns None for an offset outside of strings.
    """
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
    """Return a message with the secrets replaced by `[redacted]`."""
    return scrubber(secrets)(message)


def scrubber(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces the secrets in a message by `[redacted]`, as `scrub` does.

    For many messages, the returned function is faster than calls of `scrub`.
    """
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
