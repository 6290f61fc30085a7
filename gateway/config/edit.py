"""Checks a configuration that somebody wants to save, and replaces the marks in its text by secrets.

A mark is the text that `document/redact.py` shows instead of a secret.

- A save is stricter than a start: warnings are errors, and an empty document is refused. The caller may add checks
  (`Judge`).
- A mark is allowed in the value of a JSON key for secrets, in a comment, and at a place where the present file has the
  same secret. At any other place, such as a provider's description, a mark is refused, because callers could read the
  secret there.
- A mark is not replaced if redaction would not hide the secret in the new text. Redaction hides every copy of a secret
  that is in use. A secret that is no longer in use is recognised only by its JSON key, such as `apikey`, or by its
  form, such as a well-known prefix.
- Nothing here writes a file. `config/document/atomic_file.py` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.config.document.hujson import Document, HujsonError, line_starts, parse, tokens
from gateway.config.document.redact import MARK, Known, role_lookup, scrubber
from gateway.config.document.secret_spans import Ranges, Span, spans
from gateway.config.findings import ConfigError, Finding
from gateway.config.load import Loaded, loads
from gateway.contract.registry import KnownPlugins

_BEFORE: Final = re.compile(r"(?:(?:bearer|basic)\s+)?", re.IGNORECASE)

EMPTY: Final = "config must not be empty"
UNKNOWN_MARK: Final = "stands for no key of the current file; write the key itself, or where it is"
MISPLACED_MARK: Final = "a key's mark may only stand in place of a key"

Judge = Callable[[Loaded], Mapping[str, str]]
"""An additional check of a valid configuration. It returns an error message for each setting that it refuses, by the
dotted path of the setting.
"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The text to write, with its secrets, and the faults that prevent a save. Warnings prevent a save too."""

    text: str
    errors: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Mark:
    """A redaction mark: its position in the text that an admin wants to save, and the text that will replace it."""

    start: int
    end: int
    text: str
    fault: str = ""
    commented: bool = False


def propose(
    given: str,
    path: Path,
    known: Mapping[str, Known],
    *,
    active: Collection[str],
    plugins: KnownPlugins,
    judge: Judge = lambda _: {},
) -> Proposal:
    """Check the text `given`, which is to be saved as the file `path`, and replace its redaction marks by secrets.

    `known` maps each allowed mark to its secret (from `redact`). No finding shows a secret of `known` or `active` (the
    secrets in use).
    """
    try:
        document = parse(given)
    except HujsonError:
        document = None
    if document is None or not document.value:
        return Proposal(given, _check(given, path, plugins, judge))
    marks = _marks(document, known)
    if not any(mark.fault for mark in marks):
        marks = _keep_hidden(given, marks)
    text = _restore(given, marks)
    if faults := [mark for mark in marks if mark.fault]:
        return Proposal(text, tuple(_finding(document, mark, path) for mark in faults))
    scrub = scrubber({*active, *(entry.text for entry in known.values())})
    findings = _check(text, path, plugins, judge)
    starts = line_starts(text)
    return Proposal(text, tuple(_as_given(finding, document, marks, starts, scrub) for finding in findings))


def _check(text: str, path: Path, plugins: KnownPlugins, judge: Judge) -> tuple[Finding, ...]:
    if _is_empty(text):
        return (Finding("error", "", 1, 1, EMPTY, str(path)),)
    try:
        loaded = loads(text, name=str(path), folder=path.parent, plugins=plugins)
    except ConfigError as error:
        return error.findings
    against = judge(loaded).items()
    faults = (
        Finding("error", about, *loaded.document.locate(tuple(about.split("."))), message, str(path))
        for about, message in against
    )
    return (*faults, *loaded.warnings)


def _is_empty(text: str) -> bool:
    """Return whether a text has only blanks and comments, or only an empty object."""
    try:
        pieces = [piece.text for piece in tokens(text) if piece.kind not in {"blank", "comment"}]
    except HujsonError:
        return False
    return pieces in ([], ["{", "}"])


def _marks(document: Document, known: Mapping[str, Known]) -> list[_Mark]:
    if MARK.search(document.text) is None:
        return []
    comments = Ranges((piece.start, piece.end) for piece in tokens(document.text) if piece.kind == "comment")
    keys = [span for span in spans(document) if span.place == "key"]
    places, role = Ranges((span.start, span.end) for span in keys), role_lookup(document)
    marks = []
    for match in MARK.finditer(document.text):
        start, end = match.span()
        entry = known.get(match[0])
        if entry is None:
            marks.append(_Mark(start, end, match[0], UNKNOWN_MARK))
            continue
        commented, around = comments.holds(start), places.around(start)
        fits = commented or entry.text == match[0] or role(start) in entry.roles
        if fits or (around is not None and _begins(document.text, keys[around], start)):
            marks.append(_Mark(start, end, entry.text, commented=commented))
        else:
            marks.append(_Mark(start, end, match[0], MISPLACED_MARK))
    return marks


def _begins(text: str, key: Span, start: int) -> bool:
    """Return whether a mark is at the beginning of a value, or has only `Bearer` or `Basic` before it.

    `key` is the range of the value in the text, and `start` is the offset of the mark. Only such a mark may be replaced
    by the secret. For example, after `file:` the secret would become a path, and error messages quote paths.
    """
    return bool(_BEFORE.fullmatch(text, key.start, start))


def _restore(given: str, marks: list[_Mark]) -> str:
    parts: list[str] = []
    at = 0
    for mark in marks:
        parts += (given[at : mark.start], mark.text)
        at = mark.end
    return "".join([*parts, given[at:]])


def _keep_hidden(given: str, marks: list[_Mark]) -> list[_Mark]:
    """Return the marks, changed so that no secret is saved where a later redaction would not hide it.

    - A mark in a comment, such as that of an old API key, then stays in the saved text.
    - A mark in a value then gets a fault, because a saved value must be a secret and not a mark.
    """
    exposed = _exposed(given, marks) if marks else frozenset()
    if not exposed:
        return marks
    marks = [
        replace(mark, text=given[mark.start : mark.end]) if mark in exposed and mark.commented else mark
        for mark in marks
    ]
    # redaction also hides other occurrences of a secret; a secret in a comment, whose mark is now kept, may have been
    # the reason that another occurrence is hidden, so the marks are checked again
    still = _exposed(given, marks)
    return [replace(mark, fault=MISPLACED_MARK) if mark in still else mark for mark in marks]


def _exposed(given: str, marks: list[_Mark]) -> frozenset[_Mark]:
    """Return the marks that must not be replaced by their secrets, because a later redaction would show these secrets.

    Redaction hides every copy of a secret that is in use. A secret that is no longer in use is hidden only if its JSON
    key, such as `apikey`, or its form shows that it is a secret.
    """
    text = _restore(given, marks)
    try:
        hidden = spans(parse(text))
    except HujsonError:
        return frozenset()
    ranges = Ranges((span.start, span.end) for span in hidden)
    exposed = []
    shift = 0
    for mark in marks:
        start, length = mark.start + shift, mark.end - mark.start
        around = ranges.around(start)
        shift += len(mark.text) - length
        visible = around is None or hidden[around].end < start + len(mark.text)
        if visible and mark.text != given[mark.start : mark.end]:
            exposed.append(mark)
    return frozenset(exposed)


def _finding(document: Document, mark: _Mark, path: Path) -> Finding:
    return Finding("error", "", *document.place(mark.start), mark.fault, str(path))


def _as_given(
    finding: Finding, document: Document, marks: list[_Mark], starts: list[int], scrub: Callable[[str], str]
) -> Finding:
    """Convert a finding about the text with secrets to a finding about the text with marks, which the user has sent.

    The line and the column are those in the user's text. Secrets in the finding's path and message become `[redacted]`.
    `document` is the user's text, `marks` are its marks, and `starts` has the offset of each line in the text with
    secrets.
    """
    line, column = finding.line, finding.column
    if line:
        line, column = document.place(_given_offset(starts[line - 1] + column - 1, marks))
    path, message = scrub(finding.path), scrub(finding.message)
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
