"""Finds the names that are nearly the one that was asked for.

- A name that ends with, begins with or contains the wanted one comes first: `haiku`, `claude-haiku-4-5`.
- A name that has all its words in any order comes next: `claude-4.5-haiku`.
- A name that reads like it, or has a part that does, comes last: `claude-haiku-4-6`, `cluade-haiku-4-5`.

Letter case never matters. Nothing here knows who may see a name: the caller gives only those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import islice
from typing import Final

MOST_NAMES: Final = 3
"""Most names that are suggested."""
MAX_COMPARED: Final = 40
"""Most names that are compared letter by letter, because each comparison takes some 100 microseconds."""
MAX_SCANNED: Final = 500
"""Most names whose words are counted, because each takes a microsecond."""
MAX_LENGTH: Final = 100
"""Characters of a name that are compared."""
LEAST_RATIO: Final = 0.7
"""Least likeness of a name that reads like the wanted one; `gpt-5` and `gpt-down` have 0.62."""
_SHORTEST: Final = 3
"""Characters that a wanted name needs before a name that contains it, or is contained in it, is suggested."""
_WORD: Final = re.compile(r"[a-z]+|[0-9]+")
_NUMBER_AFTER: Final = re.compile(r"[0-9]")


def near_names(wanted: str, names: Iterable[str]) -> list[str]:
    """Return up to three of the names, the most likely one first; an empty list if none is near."""
    text = wanted.lower()[:MAX_LENGTH]
    words = _words(text)
    likely = _likely(words, list(names))
    ranked = sorted((rank, at) for at, name in enumerate(likely) if (rank := _rank(text, words, name)) is not None)
    return [likely[at] for _, at in ranked[:MOST_NAMES]]


def _rank(wanted: str, words: Sequence[str], name: str) -> tuple[float, float] | None:
    """Return a pair that is smaller for a more likely name; None for a name that is not near."""
    text = name.lower()[:MAX_LENGTH]
    place = _place(wanted, text)
    if place is not None:
        return place, len(text)
    own = _words(text)
    if words and set(words) <= set(own):
        return 4, len(text)
    if (place := _place(text, wanted)) is not None:
        return 5, -len(text)
    ratio = max(_ratio(wanted, text), _ratio_of_part(words, own))
    return (6 - ratio, len(text)) if ratio >= LEAST_RATIO else None


def _place(part: str, whole: str) -> float | None:
    """Return where the part stands: 0 it is the whole, 1 at an end, 2 at whole words, 3 anywhere; None: nowhere."""
    if part == whole:
        return 0
    at = whole.find(part) if len(part) >= _SHORTEST else -1
    if at < 0:
        return None
    before, after = whole[at - 1 : at], whole[at + len(part) : at + len(part) + 1]
    if (before.isalnum() and at > 0) or after.isalnum():
        # the 4 of `claude-4` is not that of `claude-45`
        cut_number = _NUMBER_AFTER.fullmatch(after) and part[-1:].isdigit()
        return None if cut_number else 3
    return 1 if at == 0 or not after else 2


def _ratio(one: str, other: str) -> float:
    matcher = SequenceMatcher(None, other, one, autojunk=False)
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < LEAST_RATIO:
        return 0
    return matcher.ratio()


def _ratio_of_part(words: Sequence[str], own: Sequence[str]) -> float:
    """Return the likeness of the part that has as many words as the wanted name and is most like it."""
    size = len(words)
    wanted = "-".join(words)
    parts = ("-".join(own[at : at + size]) for at in range(len(own) - size + 1))
    return max((_ratio(wanted, part) for part in parts), default=0) if size else 0


def _likely(words: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """Return the names worth comparing where there are many: those that have the most words of the wanted one."""
    if len(names) <= MAX_COMPARED:
        return names
    longest = max(words, key=len, default="")
    holding = islice((name for name in names if longest in name.lower()), MAX_SCANNED)
    wanted = set(words)
    return nlargest(MAX_COMPARED, holding, key=lambda name: len(wanted.intersection(_words(name.lower()))))


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:MAX_LENGTH])
