"""The report of `irisgate prices diff`. Suspicious prices come first, and rows with equal changes share one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gateway.money.prices.differences import Change, Differences, Key, PathPrices

_BRIEF: Final = ("input", "output", "cache_read")
"""Kinds of prices that the report shows for an added row. The price file has all prices."""
_CHANGES_SHOWN: Final = 5
"""Maximum number of changes that the report shows for one row."""


def report(differences: Differences) -> str:
    """Return the differences as text. Without differences, the text is one line."""
    parts = [_counts(differences)]
    sections = (
        ("Suspicious, look at these first", _doubts(differences.doubts)),
        ("Changed", _changed(differences.changed)),
        ("Added", _added(differences.added)),
        ("Dropped by the sources and kept", _kept(differences.kept)),
        ("Gone", _kept(dict.fromkeys(differences.gone, ""))),
    )
    for title, lines in sections:
        if text := "\n".join(f"  {line}" for line in lines):
            parts.append(f"\n{title}:\n{text}")
    return "\n".join(parts)


def _counts(differences: Differences) -> str:
    counts = (
        (len(differences.doubts), "suspicious"),
        (len(differences.changed), "changed"),
        (len(differences.added), "added"),
        (len(differences.kept), "dropped and kept"),
        (len(differences.gone), "gone"),
    )
    return "rows: " + ", ".join(f"{count} {word}" for count, word in counts)


def _doubts(doubts: Mapping[Key, tuple[str, ...]]) -> Iterator[str]:
    yield from _alike({key: "; ".join(reasons) for key, reasons in doubts.items()})


def _changed(changed: Mapping[Key, tuple[Change, ...]]) -> Iterator[str]:
    yield from _alike({key: _brief(changes) for key, changes in changed.items()})


def _brief(changes: Iterable[Change]) -> str:
    """Return changes as text. If several prices of a service tier are new, or removed, only the first of them is
    shown.
    """
    texts: list[str] = []
    tiers: set[str] = set()
    for change in changes:
        words = change.path.split(" ")
        tier = words[0] if len(words) > 1 and words[1] != "above" else ""
        whole = change.before is None or change.after is None
        if tier and whole and tier in tiers:
            continue
        tiers |= {tier} if whole else set()
        texts.append(str(change))
    more = len(texts) - _CHANGES_SHOWN
    return ", ".join(texts[:_CHANGES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _added(added: Mapping[Key, PathPrices]) -> Iterator[str]:
    yield from _alike(
        {
            key: ", ".join(f"{kind} {prices[kind]:f}" for kind in _BRIEF if kind in prices)
            for key, prices in added.items()
        }
    )


def _kept(kept: Mapping[Key, str]) -> Iterator[str]:
    """Yield the lines of the report about rows that lost prices. A line names all rows of one seller that have the same
    text in `kept`.

    The values of `kept` are texts of the field `dropped`, or "" for a row that is no longer in the price file.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for key, text in kept.items():
        groups.setdefault((key.book, text), []).append(key.name.removeprefix(f"{key.book}/"))
    for (book, text), names in groups.items():
        yield f"{book}, {text}: {', '.join(names)}" if text else f"{book}: {', '.join(names)}"


def _alike(texts: Mapping[Key, str]) -> Iterator[str]:
    """Yield lines with the name and the text of each row. Rows that differ only in their region share a line."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for key, text in texts.items():
        groups.setdefault((key.book, key.model, key.since, text), []).append(key.geo)
    for (book, model, since, text), geos in groups.items():
        where = f" [{', '.join(geo or 'no region' for geo in geos)}]" if any(geos) else ""
        yield f"{book}/{model}{where}{f' from {since}' if since else ''}{f': {text}' if text else ''}"
