"""What is wrong with a configuration, where, and what would be right.

Findings are collected while a document is read, so that all of them are told at once. A message never quotes a value
that may be a secret; `quoted` decides. Nothing here knows what the keys mean.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final, Literal

from gateway.config.hujson import Document, Path

Severity = Literal["error", "warning"]

_PLAIN_KEY: Final = re.compile(r"[\w-]+")
_HARMLESS: Final = re.compile(r"[a-z_-]{1,12}")
_NO_KEY: Final = re.compile(r"[A-Za-z_-]{1,16}")
_SHORTEST_KEY: Final = 4
"""Characters below which a value is no secret."""
_TELLING: Final = 6
"""Characters of a hidden value that tell of it: fewer are in any sentence."""


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
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        parts = (place, "warning" if self.severity == "warning" else "", self.path, self.message)
        return ": ".join(part for part in parts if part)


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

    def _add(self, severity: Severity, path: Path, message: str) -> None:
        if path in self.settled:
            return
        for value, instead in self.hidden.items():
            message = masked(message, value, instead)
        self.found.append(Finding(severity, dotted(path), *self.document.locate(path), message, self.file))


def dotted(path: Path) -> str:
    """A path as people write it: `grants[0].app."tailscale.com/cap/aperture"[1].role`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _PLAIN_KEY.fullmatch(step) else json.dumps(step))
    return text


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
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=1)
    return f'; did you mean "{names[near[0]]}"?' if near else ""
