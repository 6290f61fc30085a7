"""Divides time ranges into pieces, so that the rows of one table of sums cover each piece exactly.

For example, a month in the reader's time zone is not a month in UTC. In India, a month begins and ends 5:30 hours
earlier than in UTC. So the sum over a month in India is computed from three sums: the sum over the month in UTC, plus
the sum over the 5:30 hours before the month in UTC, minus the sum over the last 5:30 hours of the month in UTC.
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
    """Index of the time bucket that the piece is a part of."""
    since: int
    """Start of the piece, as Unix time in milliseconds."""
    until: int
    """Exclusive end, as Unix time in milliseconds."""


class Share(NamedTuple):
    """A time bucket, and whether the sums over a range of time are added to it or subtracted from it."""

    bucket: int
    """Index of the time bucket."""
    sign: int
    """1 if the sums are added to the bucket, and -1 if they are subtracted. For example, the bucket is a month in
    India, which ends 5:30 hours before the month in UTC. The sum over the month in UTC is added to the bucket, and the
    sum over the last 5:30 hours of the month in UTC is subtracted."""


Range = tuple[int, int]
"""The start and the exclusive end of a range, as Unix times in milliseconds."""
Shares = dict[Range, list[Share]]
"""The rows to read from one table of sums. A key is a range of time. Its value says to which time buckets the sums of
the rows in this range are added, and from which buckets they are subtracted.
"""


def shares(buckets: Sequence[Span], tables: Mapping[str, Unit]) -> dict[str, Shares]:
    """Return which rows must be read from each table of sums, so that the sum over each time bucket is exact.

    The bounds of a bucket are first moved to the nearest bounds of the longest unit of time. Rows of shorter units
    correct the difference. They are added if the bucket became shorter, and subtracted if it became longer. If two
    buckets meet at a bound, the same rows are added to one bucket and subtracted from the other, and they are read only
    once.

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
    """Divide time buckets into pieces, and return the pieces by the name of the table that covers them.

    No piece reaches beyond its bucket. So each row of a piece counts only calls in the bucket. `tables` has the unit of
    time of each table, with the longest unit first.
    """
    parts: dict[str, list[Piece]] = defaultdict(list)
    for piece in _whole(buckets):
        _divide(piece, [*tables.items()], parts)
    return parts


def _whole(buckets: Sequence[Span]) -> list[Piece]:
    return [Piece(bucket, round(span.since * 1000), round(span.until * 1000)) for bucket, span in enumerate(buckets)]


def _divide(piece: Piece, tables: Sequence[tuple[str, Unit]], parts: dict[str, list[Piece]]) -> None:
    """Divide a piece among the tables.

    The first table gets the whole units (such as days) within the piece. The finer tables get what is left at both
    ends.
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
