"""What is wrong with a configuration, where, and what would be right.

Findings are collected while a document is read, so that all of them are told at once. A message never quotes a value
that may be a secret; `quoted` decides. Nothing here knows what the keys mean.
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

from gateway.config.document.hujson import Document, Path, dotted

Severity = Literal["error", "warning"]

_HARMLESS: Final = re.compile(r"[a-z_-]{1,12}")
_NO_KEY: Final = re.compile(r"[A-Za-z_-]{1,16}")
_SHORTEST_KEY: Final = 4
"""Characters below which a value is no secret."""
_TELLING: Final = 6
"""Characters of a hidden value that tell of it: fewer are in any sentence."""
MAX_FINDINGS: Final = 1000
"""Of each severity: nobody reads more, and telling each costs time."""
PATIENCE: Final = 200_000
"""Names that all checks of one document together look through, where each would look through all."""
_LONGEST_NAME: Final = 100
"""Characters of a word that is looked for among others."""
_LONG_QUOTE: Final = re.compile(r'"([^"]{100})[^"]{100,}"')
_LONGEST_MESSAGE: Final = 2000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing. `line` is 0 where the finding is about the file as a whole."""

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
        return printable(": ".join(part for part in parts if part))


class ConfigError(Exception):
    """A configuration that cannot be used. Its text is every finding, one a line.

    `watched` are the files that were read or looked for, so that a change of one of them is worth another try.
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
    found: list[Finding] = field(default_factory=list)
    hidden: Mapping[str, str] = field(default_factory=dict)
    """Values that no message may show, with what stands in their place: they came from the environment."""
    settled: frozenset[Path] = frozenset()
    """Places of which everything is said already."""
    _counts: dict[Severity, int] = field(default_factory=dict, init=False)
    _patience: int = field(default=PATIENCE, init=False)
    _traces: dict[str, dict[str, str]] | None = field(default=None, init=False)
    """By a part of them that tells: the hidden values."""

    def error(self, path: Path, message: str) -> None:
        self._add("error", path, message)

    def warn(self, path: Path, message: str) -> None:
        self._add("warning", path, message)

    def at(self, path: Path) -> str:
        """Where `path` stands, for messages that name a second place."""
        return "{}:{}".format(*self.document.locate(path))

    @property
    def failed(self) -> bool:
        return any(finding.severity == "error" for finding in self.found)

    def sorted(self) -> tuple[Finding, ...]:
        """Errors first, each kind in the document's order: whoever shows one line shows what stops the start."""
        return tuple(sorted(self.found, key=lambda finding: (finding.severity, finding.line, finding.column)))

    def hint(self, word: str, *known: Collection[str]) -> str:
        """As `closest`, as long as there is patience for it."""
        if len(word) > _LONGEST_NAME or not self.patient(sum(map(len, known))):
            return ""
        return closest(word, chain.from_iterable(known))

    def patient(self, names: int) -> bool:
        """Whether so many names may be looked through for the sake of a warning; if so, it counts as done.

        A check that looks through all names for each of many things takes minutes on a file of a megabyte.
        """
        if names > self._patience:
            return False
        self._patience -= names
        return True

    def _add(self, severity: Severity, path: Path, message: str) -> None:
        if path in self.settled:
            return
        told = self._counts[severity] = self._counts.get(severity, 0) + 1
        if told > MAX_FINDINGS:
            if told == MAX_FINDINGS + 1:
                rest = f"there are more than {MAX_FINDINGS} {severity}s; the others are not told"
                self.found.append(Finding(severity, "", 0, 0, rest, self.file))
            return
        message = shortened(message)
        for value, instead in self._touched(message).items():
            message = masked(message, value, instead)
        self.found.append(Finding(severity, dotted(path), *self.document.locate(path), message, self.file))

    def _touched(self, message: str) -> Mapping[str, str]:
        """The hidden values that a message may show a part of: looking for each of many in each message takes long."""
        if not self.hidden:
            return self.hidden
        if self._traces is None:
            self._traces = _traces(self.hidden)
        found: dict[str, str] = {}
        for size in range(_SHORTEST_KEY, _TELLING + 1):
            for at in range(len(message) - size + 1):
                found |= self._traces.get(message[at : at + size], {})
        return found


def _traces(hidden: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Parts of values that tell of them, of four to six characters, with the values that have them."""
    traces: dict[str, dict[str, str]] = {}
    for value, instead in hidden.items():
        size = min(len(value), _TELLING)
        for at in range(len(value) - size + 1) if size >= _SHORTEST_KEY else ():
            traces.setdefault(value[at : at + size], {})[value] = instead
    return traces


def printable(text: str) -> str:
    """The text as one line that a terminal shows and does not obey: line breaks and control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def shortened(message: str) -> str:
    """A message in which long quotes are cut."""
    cut = _LONG_QUOTE.sub(r'"\1..."', message)
    return cut if len(cut) <= _LONGEST_MESSAGE else f"{cut[:_LONGEST_MESSAGE]}..."


def quoted(value: Any, allowed: Iterable[str] = ()) -> str:
    """A value as a message may show it, for a key is easily pasted into the wrong field.

    Shown are a short word in lower case and what is nearly one of the `allowed`; never what has a digit or is long.
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str):
        return "the value"
    shown = harmless(value) or (_NO_KEY.fullmatch(value) and closest(value, allowed))
    return f'"{value}"' if shown else "the value"


def masked(message: str, value: str, instead: str) -> str:
    """The message without what it shows of the value, be it a part: messages shorten what they quote."""
    if len(value) < _SHORTEST_KEY or harmless(value):
        return message
    same = difflib.SequenceMatcher(None, message, value, autojunk=False).find_longest_match()
    if same.size < min(len(value), _TELLING):
        return message
    before, after = message[: same.a], message[same.a + same.size :]
    return masked(before, value, instead) + instead + masked(after, value, instead)


def harmless(text: str) -> bool:
    """No key looks like this."""
    return bool(_HARMLESS.fullmatch(text))


def closest(word: str, known: Iterable[str]) -> str:
    """A hint at what was probably meant; "" if nothing is near."""
    names = {name.lower(): name for name in known if len(name) <= _LONGEST_NAME}
    near = difflib.get_close_matches(word.lower(), names, n=1)
    return f'; did you mean "{names[near[0]]}"?' if near else ""
