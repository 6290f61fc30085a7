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
    """A part of a time bucket (such as one day of a chart). One table of sums has rows for exactly this part."""

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
"""The ranges of time to read from one table of sums. The value of a range has the time buckets to which the sums over
this range are added, or from which they are subtracted."""


def shares(buckets: Sequence[Span], tables: Mapping[str, Unit]) -> dict[str, Shares]:
    """Return, for each table of sums, the ranges of time to read, so that the sum over each time bucket is exact.

    Most of a bucket is read in units of the longest unit of time, such as months. Sums over shorter units are added for
    what is missing, and subtracted for what is too much. If such a range lies between two buckets, it is read once for
    both.

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
    """Return the time at which a unit begins that is nearest to `at`. Both are Unix times in milliseconds."""
    before, after = unit.start(at), unit.following(at)
    return before if at - before <= after - at else after


def parts_within(buckets: Sequence[Span], tables: Mapping[str, Unit]) -> dict[str, list[Piece]]:
    """Divide time buckets into pieces. Return the pieces by the name of the table from which they are read.

    No piece extends beyond its bucket. So no sums need to be subtracted, in contrast to `shares`. `tables` has the unit
    of time of each table, with the longest unit first.
    """
    parts: dict[str, list[Piece]] = defaultdict(list)
    for piece in _whole(buckets):
        _divide(piece, [*tables.items()], parts)
    return parts


def _whole(buckets: Sequence[Span]) -> list[Piece]:
    return [Piece(bucket, round(span.since * 1000), round(span.until * 1000)) for bucket, span in enumerate(buckets)]


def _divide(piece: Piece, tables: Sequence[tuple[str, Unit]], parts: dict[str, list[Piece]]) -> None:
    """Divide a piece by units of time, and add the results to `parts`.

    The whole units of the first table (such as whole months) are read from this table. What remains at both ends is
    read from the further tables, whose units are shorter.
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
