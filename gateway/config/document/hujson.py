"""A HuJSON parser that keeps positions. HuJSON is JSON plus `//` and `/* */` comments and trailing commas.

- One parse gives the value, the offset of every key and element, and the duplicate keys. No library gives all three.
- Messages turn an offset into a line and a column.
- No message quotes a value, because a value may be a secret.
- Nothing here knows what a key means.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

MAX_DEPTH: Final = 64
"""Maximum depth of nesting. No configuration needs so many levels, and a far deeper text would exhaust the stack."""
MAX_NUMBER: Final = 400
"""Maximum length of a number in characters. Every double is shorter."""
MAX_PIECES: Final = 600_000
"""Maximum number of keys, values and punctuation marks in a text. Parsing more would take seconds.

A configuration with 10,000 grants has about 260,000."""

MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of a configuration in bytes. 10,000 grants take less than 2 MB. A larger file is not a configuration."""
_MAX_NAME: Final = 100
"""Number of characters that a dotted path shows of a very long name. A name of up to twice this length is shown in
full.
"""
_PLAIN_KEY: Final = re.compile(r"[\w-]+")

Path = tuple[str | int, ...]
"""The path of a value in the document: keys and indexes, outermost first."""

_TOKEN: Final = re.compile(
    r"""
      (?P<blank>   [ \t\r\n]+ )
    | (?P<comment> //[^\n\x00]* | /\*[^\x00]*?\*/ )
    | (?P<string>  "[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*" )
    | (?P<word>    [-+.\w]+ )
    | (?P<mark>    [{}\[\],:] )
    | (?P<fault>   [\s\S] )
    """,
    re.VERBOSE,
)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<real>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}
_SILENT: Final = frozenset({"blank", "comment"})
_CLOSES: Final = frozenset({"}", "]"})
_OPENS_WITHOUT_VALUE: Final = ("{", "[", ",", ":", "")
_LONE_RETURN: Final = re.compile(r"\r(?!\n)")
_UNREADABLE: Final = (
    ("/*", "the comment is not closed, or holds a zero byte; it ends with */"),
    ('"', "the string is not closed on its line, or holds a control character"),
    ("'", "strings stand in double quotes"),
)


class HujsonError(ValueError):
    """The error for a text that is not valid HuJSON. `offset` is the position of the first wrong character."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key that occurs twice in an object. JSON parsers disagree on which of the two values counts."""

    path: Path
    first: int
    second: int


class String(NamedTuple):
    """A string value. `start` is the offset of its opening quote, and `end` the offset after its closing quote."""

    path: Path
    start: int
    end: int
    value: str


@dataclass(frozen=True)
class Document:
    """A parsed text: its value, and the offsets of all keys and elements."""

    text: str
    value: Any
    offsets: Mapping[Path, int]
    """Offsets by path: the start of a key, or the start of an element's value. The path `()` is the whole document."""
    duplicates: tuple[Duplicate, ...] = ()
    strings: tuple[String, ...] = ()
    """All string values, in the order of the text. They include strings of duplicate keys, which `value` lacks."""

    @cached_property
    def _lines(self) -> list[int]:
        return line_starts(self.text)

    def place(self, offset: int) -> tuple[int, int]:
        """Return the line and column of an offset, both counted from 1, columns in characters."""
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def locate(self, path: Path) -> tuple[int, int]:
        """Return the line and column of `path`. If `path` is missing, use its nearest existing parent."""
        while path and path not in self.offsets:
            path = path[:-1]
        return self.place(self.offsets.get(path, 0))


class Token(NamedTuple):
    """A token of a text. `kind` is blank, comment, string, word (such as a number) or mark (punctuation)."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def line_starts(text: str) -> list[int]:
    """Return the offset of the first character of each line."""
    return [0, *(match.end() for match in re.finditer("\n", text))]


def parse(text: str) -> Document:
    """Return the parsed text. Raises `HujsonError` if the text is not valid HuJSON.

    If a key occurs several times in an object, its last value counts, and each repetition is in `duplicates`.
    """
    pieces = _significant(text)
    if not pieces:
        raise HujsonError("the configuration is empty; it is one object, { ... }", 0)
    parser = _Parser(pieces, len(text))
    value = parser.document()
    return Document(text, value, parser.offsets, tuple(parser.duplicates), tuple(parser.strings))


def tokens(text: str) -> list[Token]:
    """Return all tokens of a text.

    Their concatenation is the text. Raises `HujsonError` for an unexpected character.
    """
    return list(_scan(text, frozenset()))


def _scan(text: str, left_out: Collection[str]) -> Iterator[Token]:
    """Yield the tokens of a text, without the kinds in `left_out`."""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "comment":
            _check_comment(match[0], match.start())
        elif kind == "fault":
            raise HujsonError(_unreadable(text, match.start()), match.start())
        if kind not in left_out:
            yield Token(kind, match[0], match.start())


def _check_comment(comment: str, start: int) -> None:
    """Raise `HujsonError` for a carriage return without a line feed in a `//` comment.

    Some editors show the rest of such a comment on a new line, where it looks like a value.
    """
    if comment.startswith("//") and (alone := _LONE_RETURN.search(comment.removesuffix("\r"))) is not None:
        message = "the line ends in a carriage return (CR) alone, which ends no comment; end lines with LF or CRLF"
        raise HujsonError(message, start + alone.start())


def _unreadable(text: str, at: int) -> str:
    for start, message in _UNREADABLE:
        if text.startswith(start, at):
            return message
    return f"unexpected character {text[at]!a}"


def _significant(text: str) -> list[Token]:
    """Return the tokens without blanks, comments and trailing commas.

    Raises `HujsonError` for a comma without a value before it, and for more than `MAX_PIECES` tokens.
    """
    significant: list[Token] = []
    last = ""
    for token in _scan(text, _SILENT):
        mark = token.text
        if mark == "," and last in _OPENS_WITHOUT_VALUE:
            raise HujsonError("a comma needs a value before it", token.start)
        if last == "," and mark in _CLOSES:
            significant.pop()
        significant.append(token)
        if len(significant) > MAX_PIECES:
            message = f"the text is too large: a configuration has at most {MAX_PIECES} keys, values and marks"
            raise HujsonError(message, token.start)
        last = mark
    return significant


class _Parser:
    """A recursive descent parser with a maximum depth (`MAX_DEPTH`)."""

    def __init__(self, pieces: list[Token], length: int) -> None:
        self.offsets: dict[Path, int] = {(): pieces[0].start}
        self.duplicates: list[Duplicate] = []
        self.strings: list[String] = []
        self._tokens = pieces
        self._next = 0
        self._end = length

    def document(self) -> Any:
        value = self._value(())
        if self._next < len(self._tokens):
            raise HujsonError("nothing may follow the value", self._tokens[self._next].start)
        return value

    def _take(self, wanted: str) -> Token:
        if self._next == len(self._tokens):
            raise HujsonError(f"expected {wanted}, found the end of the text", self._end)
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _peek(self) -> str:
        return self._tokens[self._next].text if self._next < len(self._tokens) else ""

    def _value(self, path: Path) -> Any:
        token = self._take("a value")
        if len(path) > MAX_DEPTH:
            raise HujsonError(f"nested deeper than {MAX_DEPTH} levels", token.start)
        if token.text == "{":
            return self._object(path)
        if token.text == "[":
            return self._array(path)
        if token.kind == "string":
            self.strings.append(String(path, token.start, token.end, value := string_value(token)))
            return value
        if token.kind == "word":
            return _word(token)
        raise HujsonError(f'expected a value, found "{token.text}"', token.start)

    def _object(self, path: Path) -> dict[str, Any]:
        members: dict[str, Any] = {}
        if self._peek() == "}":
            self._next += 1
            return members
        while True:
            key = self._take("a key or }")
            if key.kind != "string":
                raise HujsonError("expected a key in double quotes", key.start)
            name = string_value(key)
            inner = (*path, name)
            if name in members:
                self.duplicates.append(Duplicate(inner, self.offsets[inner], key.start))
            self.offsets[inner] = key.start
            if (colon := self._take('":"')).text != ":":
                raise HujsonError('expected ":" after the key', colon.start)
            members[name] = self._value(inner)
            if self._closes("}"):
                return members

    def _array(self, path: Path) -> list[Any]:
        elements: list[Any] = []
        if self._peek() == "]":
            self._next += 1
            return elements
        while True:
            inner = (*path, len(elements))
            self.offsets[inner] = self._tokens[self._next].start if self._peek() else self._end
            elements.append(self._value(inner))
            if self._closes("]"):
                return elements

    def _closes(self, bracket: str) -> bool:
        token = self._take(f'"," or "{bracket}"')
        if token.text not in {",", bracket}:
            raise HujsonError(f'expected "," or "{bracket}"', token.start)
        return token.text == bracket


def string_value(token: Token) -> str:
    """Return the value of a string token. Raises `HujsonError` for an invalid escape or a lone surrogate."""
    try:
        value: str = json.loads(token.text) if "\\" in token.text else token.text[1:-1]
        if not value.isascii():
            value.encode()
    except json.JSONDecodeError as error:
        raise HujsonError(f"the string holds a wrong escape: {error.msg}", token.start + error.pos) from None
    except UnicodeEncodeError:
        raise HujsonError("the string holds one half of a surrogate pair", token.start) from None
    return value


def _word(token: Token) -> Any:
    if token.text in _WORDS:
        return _WORDS[token.text]
    number = _NUMBER.fullmatch(token.text) if len(token.text) <= MAX_NUMBER else None
    if number is None:
        raise HujsonError(
            "expected a value, found a word without quotes that is no number, true, false or null", token.start
        )
    if not number["real"]:
        return int(token.text)
    value = float(token.text)
    if not math.isfinite(value):
        raise HujsonError("the number is too large", token.start)
    return value


def dotted_path(path: Path) -> str:
    """Return a path as text: `grants[0].app."tailscale.com/cap/aperture"[1].role`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _PLAIN_KEY.fullmatch(step) else json.dumps(step)
            text += ("." if text else "") + (name if len(name) <= 2 * _MAX_NAME else f"{name[:_MAX_NAME]}...")
    return text
