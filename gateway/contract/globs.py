"""Globs over "provider/model", as grants write them.

- `*` matches any text within one segment; `**` as a whole segment matches any number of segments, even none.
- A model's id may hold "/" and ":", so only `bedrock/**` covers ARNs.
- Grants are decided in `access/grants.py`. Nothing here knows a caller.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence


def matches(pattern: str, name: str) -> bool:
    """Return whether the pattern covers a model, given as "provider/model"."""
    return _glob(pattern.split("/"), name.split("/"), "**", _segment_matches)


def covers_provider(pattern: str, provider: str) -> bool:
    """Return whether the pattern could cover some model of the provider."""
    head, slash, _ = pattern.partition("/")
    return head == "**" or (bool(slash) and _segment_matches(head, provider))


def _segment_matches(pattern: str, text: str) -> bool:
    return _glob(pattern, text, "*", operator.eq)


def _glob(pattern: Sequence[str], text: Sequence[str], star: str, same: Callable[[str, str], bool]) -> bool:
    """Match greedily, going back to the last star alone, so that no pattern is slow, as a regex could be."""
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
