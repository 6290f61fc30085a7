"""Division of time ranges into pieces, so that each piece is covered exactly by the rows of one table.

For example, a month in the reader's time zone is not a month in UTC. In India, its sum is that of the month in UTC,
with the last hours before this month, and without the last hours of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.store.reports.values import Span
from gateway.store.units import Unit


class Piece(NamedTuple):
    """A part of a time bucket that the rows of one table cover exactly."""

    bucket: int
    """Index of the time bucket."""
    since: int
    """Start of the piece, as Unix time in milliseconds."""
    until: int
    """Exclusive end, as Unix time in milliseconds."""


class Share(NamedTuple):
    """A time bucket to which the sums of some rows belong, and the sign with which they count."""

    bucket: int
    """Index of the time bucket."""
    sign: int
    """1 if the sums are added; -1 if they are subtracted, because a longer unit reaches too far."""


Range = tuple[int, int]
"""The start and the exclusive end of a range, as Unix times in milliseconds."""
Shares = dict[Range, list[Share]]
"""The time buckets to which the rows of a table belong, by the range of the rows."""


def shares(buckets: Sequence[Span], tables: Mapping[str, Unit]) -> dict[str, Shares]:
    """Divide time buckets into ranges of the rows of `tables`. The sums of a bucket are those of its ranges, added or
    subtracted.

    A bound of a bucket is moved to the nearest bound of the longest unit, and what is then missing or too much is
    covered by shorter units. What is too much for one bucket is often missing in the next one, and is read only once.
    `tables` has the unit of time of each table, with the longest unit first.
    """
    parts: dict[str, Shares] = defaultdict(lambda: defaultdict(list))
    for piece in _whole(buckets):
        _cover(piece, 1, [*tables.items()], parts)
    return parts


def _cover(piece: Piece, sign: int, tables: Sequence[tuple[str, Unit]], parts: dict[str, Shares]) -> None:
    (table, unit), *finer = tables
    share = Share(piece.bucket, sign)
    if not finer:
        parts[table][piece.since, piece.until].append(share)
        return
    begin, end = _nearest(piece.since, unit), _nearest(piece.until, unit)
    if begin >= end:
        _cover(piece, sign, finer, parts)
        return
    parts[table][begin, end].append(share)
    for since, until in ((piece.since, begin), (end, piece.until)):
        if since < until:
            _cover(Piece(piece.bucket, since, until), sign, finer, parts)
        elif until < since:
            _cover(Piece(piece.bucket, until, since), -sign, finer, parts)


def _nearest(at: int, unit: Unit) -> int:
    """Return the bound between two units that is nearest to a Unix time in milliseconds."""
    before, after = unit.start(at), unit.following(at)
    return before if at - before <= after - at else after


def parts_within(buckets: Sequence[Span], tables: Mapping[str, Unit]) -> dict[str, list[Piece]]:
    """Divide time buckets into pieces that lie within the buckets, and return the pieces by the names of the tables.

    Whatever the rows of the pieces have, such as their times, is of calls in the bucket. `tables` has the unit of time
    of each table, with the longest unit first.
    """
    parts: dict[str, list[Piece]] = defaultdict(list)
    for piece in _whole(buckets):
        _divide(piece, [*tables.items()], parts)
    return parts


def _whole(buckets: Sequence[Span]) -> list[Piece]:
    return [Piece(bucket, round(span.since * 1000), round(span.until * 1000)) for bucket, span in enumerate(buckets)]


def _divide(piece: Piece, tables: Sequence[tuple[str, Unit]], parts: dict[str, list[Piece]]) -> None:
    """Divide a piece among the tables.

    The first table gets the whole units of its own (such as days) that are within the piece. Finer tables get the rest.
    """
    (table, unit), *finer = tables
    begin = unit.following(piece.since - 1)
    end = unit.start(piece.until)
    if not finer or (begin, end) == (piece.since, piece.until):
        parts[table].append(piece)
    elif begin >= end:
        _divide(piece, finer, parts)
    else:
        parts[table].append(Piece(piece.bucket, begin, end))
        for since, until in ((piece.since, begin), (end, piece.until)):
            if since < until:
                _divide(Piece(piece.bucket, since, until), finer, parts)
