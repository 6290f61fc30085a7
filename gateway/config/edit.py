"""A configuration that somebody wants to save: marks made keys again, and everything that speaks against it.

Stricter than a start: warnings count, an empty document is refused, and nobody saves what takes the right to save from
them. A mark may stand where a key stands, and nowhere else; otherwise it would be a way to read what it hides, in a
provider's description or in the text of an error. Nothing here writes a file; see `replace.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.config.findings import ConfigError, Finding
from gateway.config.hujson import Document, HujsonError, line_starts, parse, tokens
from gateway.config.load import Loaded, loads
from gateway.config.redact import MARK, MIN_ANYWHERE, Known, Ranges, Span, scrub, spans

_BEFORE: Final = re.compile(r"(?:(?:bearer|basic)\s+)?", re.IGNORECASE)

EMPTY: Final = "config must not be empty"
UNKNOWN_MARK: Final = "stands for no key of the current file; write the key itself, or where it is"
MISPLACED_MARK: Final = "a key's mark may only stand in place of a key"

Judge = Callable[[Loaded], str]
"""Says what speaks against a sound configuration, "" for nothing."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would be written, and what is wrong with it; it is written only when nothing is."""

    text: str
    errors: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Mark:
    """A mark of a text, and what it becomes."""

    start: int
    end: int
    text: str
    fault: str = ""


def propose(
    given: str,
    path: Path,
    known: Mapping[str, Known],
    *,
    active: Collection[str],
    flags: Collection[str],
    judge: Judge = lambda _: "",
) -> Proposal:
    """What `given` would become as the file `path`. `known` are the marks that may stand in it (`redact`)."""
    try:
        document = parse(given)
    except HujsonError:
        document = None
    if document is None or not document.value:
        return Proposal(given, _check(given, path, flags, judge))
    marks = _marks(document, known)
    text = _restored(given, marks)
    faults = [mark for mark in marks if mark.fault] or _bare(text, marks, active)
    if faults:
        return Proposal(text, tuple(_finding(document, mark, path) for mark in faults))
    secrets = {*active, *(entry.text for entry in known.values())}
    found = _check(text, path, flags, judge)
    starts = line_starts(text)
    return Proposal(text, tuple(_as_given(finding, document, marks, starts, secrets) for finding in found))


def _check(text: str, path: Path, flags: Collection[str], judge: Judge) -> tuple[Finding, ...]:
    if _is_empty(text):
        return (Finding("error", "", 1, 1, EMPTY, str(path)),)
    try:
        loaded = loads(text, name=str(path), known_flags=flags, folder=path.parent)
    except ConfigError as error:
        return error.findings
    against = judge(loaded)
    return (*((Finding("error", "grants", 0, 0, against, str(path)),) if against else ()), *loaded.warnings)


def _is_empty(text: str) -> bool:
    """Nothing but blanks and comments, or an object without members."""
    try:
        pieces = [piece.text for piece in tokens(text) if piece.kind not in {"blank", "comment"}]
    except HujsonError:
        return False
    return pieces in ([], ["{", "}"])


def _marks(document: Document, known: Mapping[str, Known]) -> list[_Mark]:
    comments = Ranges((piece.start, piece.end) for piece in tokens(document.text) if piece.kind == "comment")
    keys = [span for span in spans(document) if span.place == "key"]
    places = Ranges((span.start, span.end) for span in keys)
    found = []
    for match in MARK.finditer(document.text):
        start, end = match.span()
        entry = known.get(match[0])
        around = places.around(start)
        if entry is None:
            found.append(_Mark(start, end, match[0], UNKNOWN_MARK))
        elif (
            entry.plain or comments.holds(start) or (around is not None and _begins(document.text, keys[around], start))
        ):
            found.append(_Mark(start, end, entry.text))
        else:
            found.append(_Mark(start, end, match[0], MISPLACED_MARK))
    return found


def _begins(text: str, key: Span, start: int) -> bool:
    """Not behind `env:` or `file:`, where an error would quote what the mark became."""
    return bool(_BEFORE.fullmatch(text, key.start, start))


def _restored(given: str, marks: list[_Mark]) -> str:
    parts: list[str] = []
    at = 0
    for mark in marks:
        parts += (given[at : mark.start], mark.text)
        at = mark.end
    return "".join([*parts, given[at:]])


def _bare(text: str, marks: list[_Mark], active: Collection[str]) -> list[_Mark]:
    """Marks that became what nobody would hide again: a short key stays one only where its place tells of it."""
    if all(len(mark.text) >= MIN_ANYWHERE for mark in marks):
        return []
    try:
        hidden = spans(parse(text), active)
    except HujsonError:
        return []
    ranges = Ranges((span.start, span.end) for span in hidden)
    bare = []
    shift = 0
    for mark in marks:
        start = mark.start + shift
        around = ranges.around(start)
        shift += len(mark.text) - (mark.end - mark.start)
        if around is None or hidden[around].end < start + len(mark.text):
            bare.append(replace(mark, fault=MISPLACED_MARK))
    return bare


def _finding(document: Document, mark: _Mark, path: Path) -> Finding:
    return Finding("error", "", *document.place(mark.start), mark.fault, str(path))


def _as_given(
    finding: Finding, document: Document, marks: list[_Mark], starts: list[int], secrets: Collection[str]
) -> Finding:
    """A finding about the restored text, at its place in the text as it was given, without secrets."""
    line, column = finding.line, finding.column
    if line:
        line, column = document.place(_given_offset(starts[line - 1] + column - 1, marks))
    path, message = scrub(finding.path, secrets), scrub(finding.message, secrets)
    return replace(finding, line=line, column=column, path=path, message=message)


def _given_offset(offset: int, marks: list[_Mark]) -> int:
    shift = 0
    for mark in marks:
        start = mark.start + shift
        if offset < start:
            break
        if offset < start + len(mark.text):
            return mark.start
        shift = start + len(mark.text) - mark.end
    return offset - shift
