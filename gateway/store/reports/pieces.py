"""Division of time ranges into pieces, so that each piece is covered exactly by the rows of one table.

For example, a day in the reader's time zone is not a day in UTC. Its sum is computed from the largest units of UTC
that lie within it, such as whole hours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.store.reports.values import Span


class Piece(NamedTuple):
    """A part of a time bucket that the rows of one table cover exactly."""

    bucket: int
    """Index of the time bucket."""
    since: int
    """Start of the piece, as Unix time in milliseconds."""
    until: int
    """Exclusive end, as Unix time in milliseconds."""


def pieces(buckets: Sequence[Span], tables: Mapping[str, int]) -> dict[str, list[Piece]]:
    """Divide time buckets into pieces. A piece is a part of a bucket that the rows of one table cover exactly.

    Return the pieces by the name of this table. `tables` has the unit of time of each table in milliseconds, with the
    longest unit first.
    """
    parts: dict[str, list[Piece]] = defaultdict(list)
    for bucket, span in enumerate(buckets):
        _divide(Piece(bucket, round(span.since * 1000), round(span.until * 1000)), [*tables.items()], parts)
    return parts


def _divide(piece: Piece, tables: Sequence[tuple[str, int]], parts: dict[str, list[Piece]]) -> None:
    """Divide a piece among the tables.

    The first table gets the whole units of its own (such as days) that are within the piece. Finer tables get the rest.
    """
    (table, unit), *finer = tables
    begin = -(-piece.since // unit) * unit
    end = piece.until // unit * unit
    if not finer or (begin, end) == (piece.since, piece.until):
        parts[table].append(piece)
    elif begin >= end:
        _divide(piece, finer, parts)
    else:
        parts[table].append(Piece(piece.bucket, begin, end))
        for since, until in ((piece.since, begin), (end, piece.until)):
            if since < until:
                _divide(Piece(piece.bucket, since, until), finer, parts)
