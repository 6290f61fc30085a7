"""Globs over "provider/model", for grants and for those who check or explain what was written.

`*` is any text within one segment, `**` as a whole segment is any number of segments, none included. Model ids may
themselves hold "/" and ":", so `bedrock/**` is what covers ARNs. Who is granted what is `access/grants.py`'s: nothing
here knows of a caller, so that a configuration can be read without them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence


def matches(pattern: str, name: str) -> bool:
    """Whether the pattern covers this model."""
    return _glob(pattern.split("/"), name.split("/"), "**", _segment_matches)


def covers_provider(pattern: str, provider: str) -> bool:
    """Some model of the provider could match."""
    head, slash, _ = pattern.partition("/")
    return head == "**" or (bool(slash) and _segment_matches(head, provider))


def _segment_matches(pattern: str, text: str) -> bool:
    return _glob(pattern, text, "*", operator.eq)


def _glob(pattern: Sequence[str], text: Sequence[str], star: str, same: Callable[[str, str], bool]) -> bool:
    """Greedy matching that only ever goes back to the last star: no pattern makes it slow, as a regex could be."""
    at = seen = resume = 0
    last_star = -1
    while seen < len(text):
        if at < len(pattern) and pattern[at] == star:
            last_star, resume = at, seen
            at += 1
        elif at < len(pattern) and same(pattern[at], text[seen]):
            at += 1
            seen += 1
        elif last_star >= 0:
            resume += 1
            at, seen = last_star + 1, resume
        else:
            return False
    return all(rest == star for rest in pattern[at:])
