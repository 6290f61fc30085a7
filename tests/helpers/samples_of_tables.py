"""Chooses the cells of a large table that a test tries.

With IRISGATE_ALL_PAIRS=1, every cell is tried.
"""

import os

ALL_PAIRS = "IRISGATE_ALL_PAIRS" in os.environ


def sample_of_pairs(rows, columns, share):
    """Return some of the pairs (row, column), about one in `share`. Every row and every column is in at least one of
    them.

    `share` must not be larger than the number of rows or of columns.
    """
    rows, columns = list(rows), list(columns)
    assert share <= min(len(rows), len(columns))
    return [
        (row, column)
        for at, row in enumerate(rows)
        for place, column in enumerate(columns)
        if ALL_PAIRS or (at + place) % share == 0
    ]
