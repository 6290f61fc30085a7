"""Search for names that are similar to a wanted name, such as a model's name that a client has misspelled.

Names are found in this order:

- Names that contain the wanted name: `claude-haiku-4-5` for `claude-haiku`. Those that begin or end with the wanted
  name precede the others.
- Names that contain all words of the wanted name in any order: `claude-haiku-4-5` for `claude-4.5-haiku`.
- Names that the wanted name contains.
- Names with a similar spelling, as a whole or in a part: `claude-haiku-4-5` for `cluade-haiku-4-5`.

Upper and lower case are not distinguished. This module does not check who may see a name: its callers pass only visible
names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import islice
from typing import Final

MOST_NAMES: Final = 3
"""Maximum number of names that `near_names` returns."""
MAX_COMPARED: Final = 40
"""Maximum number of names that are compared letter by letter. Each comparison takes about 100 microseconds."""
MAX_SCANNED: Final = 500
"""Maximum number of names whose words are compared with the wanted words. Each name takes a microsecond."""
MAX_LENGTH: Final = 100
"""Number of characters of a name that are compared. Further characters are ignored."""
LEAST_RATIO: Final = 0.7
"""Minimum ratio of `difflib.SequenceMatcher` for similar names. `gpt-5` and `gpt-down` (0.62) are not similar."""
_SHORTEST: Final = 3
"""Minimum length of a name that is searched for inside other names."""
_WORD: Final = re.compile(r"[a-z]+|[0-9]+")
_NUMBER_AFTER: Final = re.compile(r"[0-9]")


def near_names(wanted: str, names: Iterable[str]) -> list[str]:
    """Return up to three of `names` that are similar to `wanted`, the most similar first."""
    text = wanted.lower()[:MAX_LENGTH]
    words = _words(text)
    likely = _likely(words, list(names))
    ranked = sorted((rank, at) for at, name in enumerate(likely) if (rank := _rank(text, words, name)) is not None)
    return [likely[at] for _, at in ranked[:MOST_NAMES]]


def _rank(wanted: str, words: Sequence[str], name: str) -> tuple[float, float] | None:
    """Return a sort key, which is smaller for a more similar name, or None if the name is not similar."""
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
    """Return a sort key for how well `part` fits into `whole`. Smaller is better.

    - 0: `part` is equal to `whole`.
    - 1: `part` consists of whole words, at the beginning or the end of `whole`.
    - 2: `part` consists of whole words, in the middle of `whole`.
    - 3: `part` begins or ends within a word.
    - None: `part` is not found, is too short, or ends within a number.
    """
    if part == whole:
        return 0
    at = whole.find(part) if len(part) >= _SHORTEST else -1
    if at < 0:
        return None
    before, after = whole[at - 1 : at], whole[at + len(part) : at + len(part) + 1]
    if (before.isalnum() and at > 0) or after.isalnum():
        # `claude-4` does not count as a part of `claude-45`, because 4 and 45 are different numbers
        cut_number = _NUMBER_AFTER.fullmatch(after) and part[-1:].isdigit()
        return None if cut_number else 3
    return 1 if at == 0 or not after else 2


def _ratio(one: str, other: str) -> float:
    matcher = SequenceMatcher(None, other, one, autojunk=False)
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < LEAST_RATIO:
        return 0
    return matcher.ratio()


def _ratio_of_part(words: Sequence[str], own: Sequence[str]) -> float:
    """Return the similarity (0 to 1) of the wanted words to the most similar part of a name.

    `own` are the words of the name. A part has consecutive words, as many as there are wanted words.
    """
    size = len(words)
    wanted = "-".join(words)
    parts = ("-".join(own[at : at + size]) for at in range(len(own) - size + 1))
    return max((_ratio(wanted, part) for part in parts), default=0) if size else 0


def _likely(words: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """Return at most `MAX_COMPARED` names to compare. `words` are the words of the wanted name.

    If there are more names, only names that contain the longest of `words` are considered. Of these, the names that
    share the most words with the wanted name are returned.
    """
    if len(names) <= MAX_COMPARED:
        return names
    longest = max(words, key=len, default="")
    holding = islice((name for name in names if longest in name.lower()), MAX_SCANNED)
    wanted = set(words)
    return nlargest(MAX_COMPARED, holding, key=lambda name: len(wanted.intersection(_words(name.lower()))))


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:MAX_LENGTH])
