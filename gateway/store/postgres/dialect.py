"""Translates SQL that SQLite and PostgreSQL share (`store/sql.py`), and its values, to what PostgreSQL accepts.

This module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

_WORDS: Final[Mapping[str, str]] = {
    # SQLite joins in the order that is written; PostgreSQL needs a setting for that (`connection.py`)
    "CROSS JOIN": "JOIN",
    "json_array(": "json_build_array(",
    "json_group_array(": "json_agg(",
    "json_group_object(": "json_object_agg(",
}
"""Maps words of SQLite's SQL that PostgreSQL does not accept to the words that replace them.

PostgreSQL has no clause like `INDEXED BY` with the name of an index. This clause is removed (`_WORD`)."""
_WORD: Final = re.compile("|".join([*map(re.escape, _WORDS), r"INDEXED BY \w+"]))
_MEMBERS: Final = re.compile(r"json_each\(iif\(json_valid\(([\w.]+)\), \1, '{}'\)\)")
_LENGTH: Final = re.compile(r"iif\(json_valid\(([\w.]+)\), json_array_length\(\1\), 0\)")
_MONTH: Final = re.compile(r"CAST\(strftime\('%s', ([^,]+) / 1000, 'unixepoch', 'start of month'\) AS INTEGER\)")
_EXPRESSIONS: Final = (
    (_MEMBERS, r"LATERAL json_each_text(CAST(\1 AS JSON))"),
    (_LENGTH, r"json_array_length(CAST(\1 AS JSON))"),
    (_MONTH, r"CAST(extract(epoch FROM date_trunc('month', to_timestamp(\1 / 1000) AT TIME ZONE 'UTC')) AS BIGINT)"),
)
"""Patterns of SQLite's expressions that PostgreSQL does not accept, each with the expression that replaces it."""
_REPLACEMENT: Final = "\ufffd"
"""The character that is stored for a character with the code 0, which PostgreSQL cannot store in texts."""

_ADDED: Final = re.compile(r"(\w+\.\w+) \+ (excluded\.\w+)")
"""Pattern for the addition to a stored sum in an SQL statement, such as `f.calls + excluded.calls`."""
_LARGEST: Final = 2**63 - 1
"""The largest integer that a column can have. Sums and values are limited to it."""


@lru_cache(64)
def bounded(statement: str) -> str:
    """Return the statement, changed so that additions to stored sums cannot overflow. A sum stops at the largest
    integer of its column.

    The changed statement is slower. It is used only if a provider has reported absurd numbers of tokens.
    """
    least = f"CAST(GREATEST({-_LARGEST}, LEAST(CAST(\\1 AS NUMERIC) + \\2, {_LARGEST})) AS BIGINT)"
    return _ADDED.sub(least, statement)


def clamped(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return values whose integers are limited to the range of a column."""
    return tuple(max(-_LARGEST, min(value, _LARGEST)) if type(value) is int else value for value in values)


@lru_cache(512)
def translated(statement: str) -> str:
    """Return a statement in PostgreSQL's dialect of SQL, with numbered placeholders.

    The statement must have no question mark in a text, because each question mark becomes a placeholder.
    """
    for pattern, replacement in _EXPRESSIONS:
        statement = pattern.sub(replacement, statement)
    first, *rest = _WORD.sub(lambda word: _WORDS.get(word[0], ""), statement).split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))


def storable(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the values, with `_REPLACEMENT` in place of each character that PostgreSQL cannot store in texts."""
    return tuple([
        value.replace("\0", _REPLACEMENT) if type(value) is str and "\0" in value else value for value in values
    ])  # fmt: skip
