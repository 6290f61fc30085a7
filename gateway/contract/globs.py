"""Patterns for names of the form "provider/model". Grants (rules about who may use which models) contain such patterns.

- `*` matches any text without "/". `**` between slashes matches any number of segments, even none.
- A model's id may contain "/", as an ARN does. So `bedrock/**` matches an ARN, and `bedrock/*` does not.
- `access/grants.py` decides which callers may use a model.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence


def matches(pattern: str, name: str) -> bool:
    """Return whether the pattern matches a name of the form "provider/model".

    >>> [globs.matches(pattern, "acme/small-1") for pattern in ("acme/small-*", "**", "*")]
    [True, True, False]
    """
    return _glob(pattern.split("/"), name.split("/"), "**", _segment_matches)


def covers_provider(pattern: str, provider: str) -> bool:
    """Return whether a pattern for "provider/model" can match any model of the provider.

    >>> globs.covers_provider("acme/*", "acme"), globs.covers_provider("acme/*", "bedrock")
    (True, False)
    """
    head, slash, _ = pattern.partition("/")
    return head == "**" or (bool(slash) and _segment_matches(head, provider))


def _segment_matches(pattern: str, text: str) -> bool:
    return _glob(pattern, text, "*", operator.eq)


def _glob(pattern: Sequence[str], text: Sequence[str], star: str, same: Callable[[str, str], bool]) -> bool:
    """Return whether the items of `text` match the items of `pattern`.

    The item `star` of the pattern matches any number of items. Any other item matches one item of `text` for which
    `same` returns true. After a mismatch, only the last star is tried again, so the time never grows exponentially.
    """
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
