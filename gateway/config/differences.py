"""Finds the differences between two configurations, for people: changed lines, and changed values with their paths.

- The caller must first replace the secrets in both texts by marks (placeholders, `document/redact.py`), because the
  differences quote the texts.
- Lists are compared from both ends, so an inserted element counts as one change.
- Nothing here reads a file or knows the meaning of a key. `changes.py` lists only the paths, for the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from gateway.config.document.hujson import Path, dotted_path
from gateway.config.document.redact import MARK

CONTEXT: Final = 3
"""Number of unchanged lines that are shown before and after each changed block."""
MAX_LINES: Final = 2_000
"""Maximum number of lines of a comparison that are shown."""
MAX_COMPARED: Final = 3_000
"""Maximum size of a changed block in lines. A larger block is shown as if all of its lines were replaced.

It is not compared line by line, because the comparison takes quadratic time.
"""
MAX_VALUES: Final = 100
"""Maximum number of changed values that are shown."""
MAX_VALUE: Final = 120
"""Maximum number of characters that are shown of a value."""
_MARK_DIGITS: Final = 17
"""Number of characters of a redaction mark that are shown. They are enough to see that two marks differ."""
_ABSENT: Final = object()

Kind = Literal["same", "removed", "added", "gap"]


class Line(NamedTuple):
    """A line of the comparison of two texts. A line of the kind "gap" stands for lines that are left out."""

    kind: Kind
    before: int | None
    """Line number in the old text. It is None if the old text lacks the line."""
    after: int | None
    text: str


class Change(NamedTuple):
    """A changed value. `before` is "" for an added value, and `after` is "" for a removed value."""

    path: str
    before: str
    after: str


def changed_lines(before: str, after: str) -> list[Line]:
    """Return the changed lines, with some unchanged lines around them, or [] if no line has changed."""
    old, new = _lines(before), _lines(after)
    hunks = list(_hunks(old, new))
    if not hunks:
        return []
    following = [*(hunk[0] for hunk in hunks[1:]), len(old)]
    lines: list[Line] = []
    shown = 0
    for (first_old, last_old, first_new, last_new), next_hunk in zip(hunks, following, strict=True):
        start = max(shown, first_old - CONTEXT)
        if start > shown:
            lines.append(Line("gap", None, None, ""))
        lines += _same(old, start, first_old, first_new - first_old)
        lines += [Line("removed", at + 1, None, old[at]) for at in range(first_old, last_old)]
        lines += [Line("added", None, at + 1, new[at]) for at in range(first_new, last_new)]
        shown = min(last_old + CONTEXT, next_hunk)
        lines += _same(old, last_old, shown, last_new - last_old)
        if len(lines) > MAX_LINES:
            return [*lines[:MAX_LINES], Line("gap", None, None, "")]
    if shown < len(old):
        lines.append(Line("gap", None, None, ""))
    return lines


def _lines(text: str) -> list[str]:
    """Return the lines of a text. Only LF and CRLF end a line, so that line numbers are those that an editor shows."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _same(old: Sequence[str], first: int, last: int, shift: int) -> list[Line]:
    return [Line("same", at + 1, at + 1 + shift, old[at]) for at in range(first, last)]


def _hunks(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the ranges of changed lines: start and end in the old text, then start and end in the new text."""
    start, end = _ends(old, new)
    left, right = old[start : len(old) - end], new[start : len(new) - end]
    if max(len(left), len(right)) > MAX_COMPARED:
        yield start, start + len(left), start, start + len(right)
        return
    for kind, *bounds in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if kind != "equal":
            first_old, last_old, first_new, last_new = (start + bound for bound in bounds)
            yield first_old, last_old, first_new, last_new


def _ends(old: Sequence[Any], new: Sequence[Any]) -> tuple[int, int]:
    """Return how many items are equal at the beginning of two lists, and how many at their end."""
    most = min(len(old), len(new))
    start = next((at for at in range(most) if not _equal(old[at], new[at])), most)
    end = next((at for at in range(most - start) if not _equal(old[-1 - at], new[-1 - at])), most - start)
    return start, end


def changed_values(before: Any, after: Any) -> list[Change]:
    """Return the values that were added, removed or changed, at most `MAX_VALUES`, in the order of the documents."""
    return [
        Change(dotted_path(path), _text(old), _text(new))
        for path, old, new in islice(_differing(before, after, ()), MAX_VALUES)
    ]


def _differing(before: Any, after: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in (*before, *(name for name in after if name not in before)):
            yield from _differing(before.get(name, _ABSENT), after.get(name, _ABSENT), (*path, name))
    elif isinstance(before, list) and isinstance(after, list):
        start, end = _ends(before, after)
        left, right = before[start : len(before) - end], after[start : len(after) - end]
        paired = min(len(left), len(right)) if len(left) == len(right) else 0
        for at in range(paired):
            yield from _differing(left[at], right[at], (*path, start + at))
        yield from (((*path, start + at), value, _ABSENT) for at, value in enumerate(left[paired:], paired))
        yield from (((*path, start + at), _ABSENT, value) for at, value in enumerate(right[paired:], paired))
    elif not _equal(before, after):
        yield path, before, after


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values of a document are equal. 1 and True are equal in Python, but not in a document."""
    return one is other or (type(one) is type(other) and json.dumps(one) == json.dumps(other))


def _text(value: Any) -> str:
    if value is _ABSENT:
        return ""
    text = MARK.sub(lambda mark: f"{mark[0][:_MARK_DIGITS]}…", json.dumps(value, ensure_ascii=False))
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"
