"""Findings about a configuration: what is wrong, where, and what is expected.

- All findings of a document are collected, so that its author can repair them all at once.
- A message never quotes a value that may be a secret. `quote` decides which values are harmless.
- Nothing here knows the meaning of a key.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path as FilePath
from typing import Any, Final, Literal

from gateway.config.document.hujson import Document, Path, dotted_path

Severity = Literal["error", "warning"]

_HARMLESS: Final = re.compile(r"[a-z_-]{1,12}")
_NO_KEY: Final = re.compile(r"[A-Za-z_-]{1,16}")
_SHORTEST_KEY: Final = 4
"""Minimum length of a secret in characters. Shorter values are not masked in messages."""
_TELLING: Final = 6
"""Messages hide each part of a secret that has at least this number of characters. A shorter part may also occur in a
message by chance.
"""
MAX_FINDINGS: Final = 1000
"""Maximum number of findings of each severity. Nobody reads more, and each one takes time."""
PATIENCE: Final = 200_000
"""Maximum number of comparisons of names in all checks of one document. Without this limit, hints for many unknown
words could take minutes."""
_LONGEST_NAME: Final = 100
"""Maximum number of characters of a misspelt word for which the gateway looks for a similar known word."""
_LONG_QUOTE: Final = re.compile(r'"([^"]{100})[^"]{100,}"')
_LONGEST_MESSAGE: Final = 2000


@dataclass(frozen=True, slots=True)
class Finding:
    """One error or warning. `line` is 0 if the finding is about the whole file."""

    severity: Severity
    path: str
    line: int
    column: int
    message: str
    file: str = ""

    def __str__(self) -> str:
        file = self.file if len(self.file) <= _LONGEST_MESSAGE else f"{self.file[:_LONGEST_NAME]}..."
        place = f"{file}:{self.line}:{self.column}" if self.line else file
        parts = (place, "warning" if self.severity == "warning" else "", self.path, self.message)
        return escape_control(": ".join(part for part in parts if part))


class ConfigError(Exception):
    """The error for a configuration that cannot be used. Its text has one line for each finding.

    `watched` are the files that were read, and the files that were not found. When one of them changes, the caller may
    load the configuration again.
    """

    def __init__(self, findings: Sequence[Finding], watched: Iterable[FilePath] = ()) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)
        self.watched = frozenset(watched)


@dataclass(slots=True)
class Report:
    """Collects the findings of one document."""

    file: str
    document: Document
    findings: list[Finding] = field(default_factory=list)
    hidden: Mapping[str, str] = field(default_factory=dict)
    """Values from the environment that no message may show, each with the macro to show instead."""
    settled: frozenset[Path] = frozenset()
    """Paths that already have a finding. No further findings are reported for them."""
    _counts: dict[Severity, int] = field(default_factory=dict, init=False)
    _patience: int = field(default=PATIENCE, init=False)
    _traces: dict[str, dict[str, str]] | None = field(default=None, init=False)
    """The result of the function `_traces` for `hidden`. It is None before the first message is searched for hidden
    values.
    """

    def error(self, path: Path, message: str) -> None:
        self._add("error", path, message)

    def warn(self, path: Path, message: str) -> None:
        self._add("warning", path, message)

    def at(self, path: Path) -> str:
        """Return the line and column of `path` as `LINE:COLUMN`."""
        return "{}:{}".format(*self.document.locate(path))

    @property
    def failed(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    def sorted(self) -> tuple[Finding, ...]:
        """Return the findings: first the errors, then the warnings, each in the order of the document."""
        return tuple(sorted(self.findings, key=lambda finding: (finding.severity, finding.line, finding.column)))

    def hint(self, word: str, *known: Collection[str]) -> str:
        """Return a hint that names a known word similar to `word` (`closest`).

        Return "" if `word` is too long, or if the document has used up its `PATIENCE` comparisons.
        """
        if len(word) > _LONGEST_NAME or not self.patient(sum(map(len, known))):
            return ""
        return closest(word, chain.from_iterable(known))

    def patient(self, names: int) -> bool:
        """Return whether `names` further comparisons are allowed, and count them if they are.

        A document has `PATIENCE` comparisons of a word with a known name.
        """
        if names > self._patience:
            return False
        self._patience -= names
        return True

    def _add(self, severity: Severity, path: Path, message: str) -> None:
        if path in self.settled:
            return
        count = self._counts[severity] = self._counts.get(severity, 0) + 1
        if count > MAX_FINDINGS:
            if count == MAX_FINDINGS + 1:
                rest = f"there are more than {MAX_FINDINGS} {severity}s; the others are not told"
                self.findings.append(Finding(severity, "", 0, 0, rest, self.file))
            return
        message = shorten(message)
        for value, instead in self._touched(message).items():
            message = mask(message, value, instead)
        self.findings.append(Finding(severity, dotted_path(path), *self.document.locate(path), message, self.file))

    def _touched(self, message: str) -> Mapping[str, str]:
        """Return the entries of `hidden` whose values may be in the message, in full or in part.

        An entry maps a value to the macro that is shown instead. An index (`_traces`) finds the entries, because
        searching each message for each value would take too long.
        """
        if not self.hidden:
            return self.hidden
        if self._traces is None:
            self._traces = _traces(self.hidden)
        touched: dict[str, str] = {}
        for size in range(_SHORTEST_KEY, _TELLING + 1):
            for at in range(len(message) - size + 1):
                touched |= self._traces.get(message[at : at + size], {})
        return touched


def _traces(hidden: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return an index that finds the hidden values that a message may contain.

    The index maps each substring of six characters (`_TELLING`) to the entries of `hidden` whose values contain it. A
    shorter value is indexed as a whole. A value of fewer than `_SHORTEST_KEY` characters is not indexed.
    """
    traces: dict[str, dict[str, str]] = {}
    for value, instead in hidden.items():
        size = min(len(value), _TELLING)
        for at in range(len(value) - size + 1) if size >= _SHORTEST_KEY else ():
            traces.setdefault(value[at : at + size], {})[value] = instead
    return traces


def escape_control(text: str) -> str:
    """Return the text as one line. Characters that a terminal might take for commands or line breaks are escaped."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def shorten(message: str) -> str:
    """Return the message with quoted texts of 200 or more characters cut to 100.

    The whole message is cut to `_LONGEST_MESSAGE` characters.
    """
    cut = _LONG_QUOTE.sub(r'"\1..."', message)
    return cut if len(cut) <= _LONGEST_MESSAGE else f"{cut[:_LONGEST_MESSAGE]}..."


def quote(value: Any, allowed: Iterable[str] = ()) -> str:
    """Return the value in quotes if a message may show it, and otherwise the text `the value`.

    A user may have pasted a secret into the wrong field. So a word of more than 16 characters, or with a digit, is
    never shown. A shorter word is shown if it is similar to one in `allowed`, or if it has at most 12 characters and
    all of them are in lower case. null, true and false are shown without quotes.
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str):
        return "the value"
    quotable = harmless(value) or (_NO_KEY.fullmatch(value) and closest(value, allowed))
    return f'"{value}"' if quotable else "the value"


def mask(message: str, value: str, instead: str) -> str:
    """Return the message with the secret `value` replaced by `instead`.

    Parts of the secret of `_TELLING` or more characters are replaced too, because `shorten` may have cut the secret. A
    value that is harmless, or has fewer than `_SHORTEST_KEY` characters, is not replaced.
    """
    if len(value) < _SHORTEST_KEY or harmless(value):
        return message
    same = difflib.SequenceMatcher(None, message, value, autojunk=False).find_longest_match()
    if same.size < min(len(value), _TELLING):
        return message
    before, after = message[: same.a], message[same.a + same.size :]
    return mask(before, value, instead) + instead + mask(after, value, instead)


def harmless(text: str) -> bool:
    """Return whether a text is so short and plain that it cannot be a secret."""
    return bool(_HARMLESS.fullmatch(text))


def closest(word: str, known: Iterable[str]) -> str:
    """Return a hint such as `; did you mean "models"?`, or "" if no known word is similar."""
    names = {name.lower(): name for name in known if len(name) <= _LONGEST_NAME}
    near = difflib.get_close_matches(word.lower(), names, n=1)
    return f'; did you mean "{names[near[0]]}"?' if near else ""
