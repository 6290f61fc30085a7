"""Queries of errors, models, tools and names.

All functions run in the thread of a connection. Text from clients is never part of a statement, only a bound value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.store.header_index import OF_CALL, terms_of, values_of
from gateway.store.reports.sums import COLUMNS, ERRORS, SUMMED, added, amounts_of, grouped, grouped_within
from gateway.store.reports.values import (
    ErrorRow,
    Errors,
    MessageRow,
    ModelHealth,
    ModelRow,
    Models,
    Names,
    Selection,
    Span,
    ToolRow,
)
from gateway.store.sql import Connection
from gateway.store.sums import shape
from gateway.store.units import UNITS, Unit

_ERROR_TABLES: Final[Mapping[str, Unit]] = {"errors_quarter": UNITS["quarter"]}
_TOOL_TABLES: Final[Mapping[str, Unit]] = {"tools_day": UNITS["day"], "tools_quarter": UNITS["quarter"]}


def errors(connection: Connection, selection: Selection, buckets: Sequence[Span], limit: int) -> Errors:
    """Return the numbers of errors by code, provider and time bucket, and at most `limit` messages, the most frequent
    first.
    """
    counts: dict[int, list[int]] = defaultdict(lambda: [0] * len(buckets))
    for bucket, kind, calls in grouped_within(connection, selection, buckets, "sum(f.calls)", "f.kind", _ERROR_TABLES):
        counts[kind][bucket] += calls
    kinds = _kinds(connection, list(counts))
    by_code: dict[tuple[str, str], list[int]] = {}
    for number, amounts in counts.items():
        code, provider = kinds[number][0], kinds[number][2]
        before = by_code.get((code, provider), [0] * len(buckets))
        by_code[code, provider] = [a + b for a, b in zip(before, amounts, strict=True)]
    rows = [
        ErrorRow(code=code, provider=provider, calls=sum(amounts), amounts=tuple(amounts))
        for (code, provider), amounts in by_code.items()
    ]
    messages = [_message(kinds[number], sum(amounts)) for number, amounts in counts.items()]
    if selection.user is not None:
        own = _own_errors(connection, selection.user, selection)
        shapes = [kinds[number][-1] for number in counts]
        messages = [_with_own_example(row, own, known) for row, known in zip(messages, shapes, strict=True)]
    return Errors(
        buckets=tuple(buckets),
        rows=tuple(sorted(rows, key=lambda row: (-row.calls, row.code, row.provider))),
        messages=tuple(sorted(messages, key=lambda row: (-row.calls, -row.last_at))[:limit]),
    )


def _kinds(connection: Connection, numbers: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    """Return the kinds of errors with the row numbers `numbers`, by row number.

    A kind is a tuple: code, the provider's own name for the error, provider, message, call id, time in milliseconds,
    shape. Message, call id and time are those of the last error of this kind. The shape is the message without numbers
    and quoted text.
    """
    wanted = set(numbers)
    rows = connection.execute("SELECT n, code, native, provider, message, example, at, shape FROM error_kinds")
    return {number: tuple(row) for number, *row in rows if number in wanted}


def _message(kind: tuple[Any, ...], calls: int) -> MessageRow:
    code, native, provider, message, example, at, _ = kind
    return MessageRow(
        code=code, native=native, provider=provider, message=message, calls=calls, example=example, last_at=at / 1000
    )


MAX_OWN: Final = 2_000
"""Maximum number of a caller's failed calls that a report reads. The report shows this caller's own error messages."""
_OWN_ERRORS: Final = """
SELECT error, error_native, provider, error_message, id, at FROM calls INDEXED BY calls_by_identity
WHERE identity = ? AND at >= ? AND at < ? AND error <> '' AND outcome <> 'ok' {} ORDER BY at DESC LIMIT ?
"""
OwnErrors = Mapping[tuple[str, str, str, str], tuple[str, str, int]]
"""The last errors of one caller, by kind.

A key is (code, the provider's own name for the error, provider, shape). The shape is the message without numbers and
quoted text. The shape "" stands for any message. A value is (message, call id, time in milliseconds)."""


def _own_errors(connection: Connection, user: str, selection: Selection) -> OwnErrors:
    own: dict[tuple[str, str, str, str], tuple[str, str, int]] = {}
    span, term = selection.span, [] if selection.header is None else [selection.header]
    values = (user, round(span.since * 1000), round(span.until * 1000), *term, MAX_OWN)
    query = _OWN_ERRORS.format(f"AND {OF_CALL.format(at='at', n='n')}" if term else "")
    for code, native, provider, message, call, at in connection.execute(query, values):
        for known in (shape(message), ""):
            own.setdefault((code, native, provider, known), (message, call, at))
    return own


def _with_own_example(row: MessageRow, own: OwnErrors, known: str) -> MessageRow:
    """Return a row of errors with an example that belongs to one caller. The example is a message, a call id and a
    time.

    The example in `row` may be another caller's. It is replaced by the caller's own last error of this kind, which is
    found in `own` by the shape `known` (the message without numbers and quoted text). If there is none in `own`, the
    message and the call id become "".
    """
    message, call, at = own.get((row.code, row.native, row.provider, known), ("", "", round(row.last_at * 1000)))
    return replace(row, message=message, example=call, last_at=at / 1000)


def models(connection: Connection, selection: Selection, buckets: Sequence[Span]) -> Models:
    """Return the models that were called, with their sums over the selection, and their calls and errors by time
    bucket.
    """
    key = "s.provider, s.model"
    sums: dict[tuple[str, str], list[Sequence[int]]] = defaultdict(list)
    for _, provider, model, *row in grouped(connection, selection, [selection.span], SUMMED, key):
        if provider:
            sums[provider, model].append(row)
    calls: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(buckets))
    failed: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(buckets))
    what = f"sum(f.calls), sum({ERRORS})"
    for bucket, provider, model, count, errors_count in grouped(connection, selection, buckets, what, key):
        calls[provider, model][bucket] += count
        failed[provider, model][bucket] += errors_count
    health = _health(connection)
    rows = []
    for (provider, model), parts in sums.items():
        amounts = amounts_of(added(parts))
        if amounts.figures.calls <= 0:
            continue
        rows.append(
            ModelRow(
                provider=provider,
                model=model,
                figures=amounts.figures,
                duration=amounts.duration,
                first_event=amounts.first_event,
                health=health.get((provider, model)),
                errors=tuple(failed[provider, model]),
                calls=tuple(calls[provider, model]),
            )
        )
    return Models(buckets=tuple(buckets), rows=tuple(sorted(rows, key=lambda row: (row.provider, row.model))))


def health(connection: Connection) -> tuple[ModelHealth, ...]:
    """Return the health of all models that were ever called."""
    return tuple(_health(connection).values())


def _health(connection: Connection) -> dict[tuple[str, str], ModelHealth]:
    rows = connection.execute("SELECT provider, model, success_at, error_at, error, message, call FROM health")
    return {
        (provider, model): ModelHealth(
            provider=provider,
            model=model,
            last_success_at=None if success_at < 0 else success_at / 1000,
            last_error_at=None if error_at < 0 else error_at / 1000,
            last_error=error,
            last_error_message=message,
            last_error_call=call,
        )
        for provider, model, success_at, error_at, error, message, call in rows
    }


def tools(connection: Connection, selection: Selection, limit: int) -> tuple[ToolRow, ...]:
    """Return at most `limit` tools that models called, the most used first."""
    calls: dict[str, int] = defaultdict(int)
    users: dict[str, set[str]] = defaultdict(set)
    # both tables lose rows of expired calls, but not at the same time
    for _, tool, login, count in grouped_within(
        connection, selection, [selection.span], "sum(f.calls)", "f.tool, s.identity", _TOOL_TABLES
    ):
        calls[tool] += count
        users[tool].add(login)
    rows = [ToolRow(name=name, calls=count, users=len(users[name])) for name, count in calls.items()]
    return tuple(sorted(rows, key=lambda row: (-row.calls, row.name))[:limit])


def names(connection: Connection, user: str | None) -> Names:
    """Return all values of each dimension in the calls of one login, or in all calls if `user` is None.

    The value "" is left out.
    """
    where, values = ("AND s.identity = ?", [user]) if user is not None else ("", [])
    # the status is a number, which PostgreSQL does not compare with a text
    known = "SELECT DISTINCT {column} FROM series s WHERE CAST({column} AS TEXT) <> '' {where} ORDER BY 1"
    return {
        dimension: tuple(str(name) for (name,) in connection.execute(known.format(column=column, where=where), values))
        for dimension, column in COLUMNS.items()
    }


MAX_READ: Final = 500
"""Maximum number of a caller's newest calls that are read to find the header values in these calls."""
_TERMS: Final = "SELECT term FROM header_terms WHERE has_sums = 1 AND term >= ? AND term < ? ORDER BY term LIMIT ?"
_OWN_HEADERS: Final = f"""
SELECT DISTINCT headers FROM (
    SELECT headers FROM calls INDEXED BY calls_by_identity WHERE identity = ? ORDER BY at DESC, n DESC LIMIT {MAX_READ}
) c
"""  # noqa: S608 (a constant)


def header_terms(connection: Connection, user: str | None, names: Sequence[str], limit: int) -> tuple[str, ...]:
    """Return texts by which calls can be filtered: the names in `names`, such as `x-team`, and at most `limit` headers
    with a value, such as `x-team:alpha`.

    If `user` is a login, the values are from the newest calls of this login. If `user` is None, they are those for
    which the store keeps sums.
    """
    if user is None:
        found = [term for name in names for (term,) in connection.execute(_TERMS, (*values_of(name), limit))]
    else:
        own = {term for (headers,) in connection.execute(_OWN_HEADERS, (user,)) for term in terms_of(headers)}
        found = sorted(term for term in own if term.partition(":")[0] in names and ":" in term)
    return (*names, *found[:limit])
