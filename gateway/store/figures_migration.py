"""The migration that replaces hourly and daily totals by figures.

Figures are sums over the calls of a quarter hour, an hour, a day, or a period of 32 days. A row of figures covers one
such time and one series: all calls with the same caller, provider, model, agent, API format, status and outcome.

Figures are computed from the stored calls. If the calls of an hour have expired, the total of this hour is stored as
the figures of its first quarter, with the API format "" and the status 0.
"""

from __future__ import annotations

from typing import Final

_BOUNDS: Final = (
    50, 89, 158, 281, 500, 889, 1581, 2812, 5000, 8891, 15811, 28117, 50000, 88914, 158114, 281171, 500000,
)  # fmt: skip
"""Upper bounds in milliseconds of the buckets that durations had in the release that introduced this migration."""
_KEY: Final = "identity, provider, model, agent, api, status, outcome"
_USAGE: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning")
_SUMS: Final = (*_USAGE, "known_cost", "cost_unknown_calls", "estimated_calls", "cache_saved", "duration_ms")
_DURATIONS: Final = tuple(f"d{pair}" for pair in range(9))
_FIRST_EVENTS: Final = tuple(f"f{pair}" for pair in range(9))
_FIGURES: Final = ("calls", *_SUMS, *_DURATIONS, *_FIRST_EVENTS)


def _table(name: str) -> str:
    columns = ", ".join(f"{column} INTEGER NOT NULL" for column in _FIGURES)
    return f"""
    CREATE TABLE {name} (
        time INTEGER NOT NULL, series INTEGER NOT NULL REFERENCES series (n), {columns}, PRIMARY KEY (time, series)
    ) WITHOUT ROWID
    """


def _buckets(column: str, condition: str) -> str:
    """Return SQL expressions that count, for each bucket of durations, the rows whose `column` is in this bucket.

    Only rows that meet `condition` are counted. Each expression packs the counts of two buckets into one integer.
    """
    ranges = list(zip(("-1e300", *_BOUNDS), (*_BOUNDS, "1e300"), strict=True))
    counts = [f"coalesce(sum({condition} AND {column} > {low} AND {column} <= {high}), 0)" for low, high in ranges]
    return ", ".join(f"{low} + ({high} << 31)" for low, high in zip(counts[::2], counts[1::2], strict=True))


def _coarser(name: str, finer: str, milliseconds: int) -> str:
    summed = ", ".join(f"sum({column})" for column in _FIGURES)
    return f"INSERT INTO {name} SELECT time - time % {milliseconds}, series, {summed} FROM {finer} GROUP BY 1, 2"  # noqa: S608 (our own names)


def _of_everybody(level: str) -> tuple[str, str]:
    """Return the statements that create and fill a table of sums over all callers and agents, such as `everybody_hour`.
    `level` is the unit of time of the sums, such as `hour`.
    """
    summed = ", ".join(f"sum(f.{column})" for column in _FIGURES)
    fill = f"""
    INSERT INTO everybody_{level} SELECT f.time, e.n, {summed} FROM figures_{level} f
    JOIN series s ON s.n = f.series
    JOIN series e ON e.identity = '' AND e.provider = s.provider AND e.model = s.model AND e.agent = ''
        AND e.api = s.api AND e.status = s.status AND e.outcome = s.outcome
    GROUP BY 1, 2
    """  # noqa: S608 (our own names)
    return _table(f"everybody_{level}"), fill


_COUNTED: Final = f"""
INSERT INTO figures_quarter
SELECT at - at % 900000 AS time, s.n, count(*), {", ".join(f"sum(c.{name})" for name in _USAGE)},
    coalesce(sum(cost), 0), sum(cost IS NULL), sum(estimated), 0, sum(max(0, CAST(round(duration_ms) AS INTEGER))),
    {_buckets("duration_ms", "c.outcome = 'ok'")}, {_buckets("first_event_ms", "first_event_ms IS NOT NULL")}
FROM calls c JOIN series s ON s.identity = c.identity AND s.provider = c.provider
    AND s.model = iif(c.provider = '', '', c.model) AND s.agent = c.agent AND s.api = c.api AND s.status = c.status
    AND s.outcome = c.outcome
GROUP BY 1, 2
"""  # noqa: S608 (our own names)

_PRESENT: Final = f"""
SELECT f.time - f.time % 3600000 AS time, s.identity, s.provider, s.model, s.agent, sum(f.calls) AS calls,
    sum(iif(s.outcome = 'ok', 0, f.calls)) AS failed, {", ".join(f"sum(f.{name}) AS {name}" for name in _SUMS)}
FROM figures_quarter f JOIN series s ON s.n = f.series
WHERE f.time - f.time % 3600000 IN (SELECT time FROM partial) GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608 (our own names)
_PARTIAL: Final = """
CREATE TEMP TABLE partial AS
SELECT u.time FROM (SELECT time, sum(calls) AS calls FROM usage_hourly GROUP BY time) u
LEFT JOIN (SELECT time - time % 3600000 AS time, sum(calls) AS calls FROM figures_quarter GROUP BY 1) p USING (time)
WHERE u.calls > coalesce(p.calls, 0)
"""
"""Statement that creates a table with the start of each hour in which calls have expired. The total of such an hour
counts more calls than are stored."""
_EXPIRED: Final = f"""
CREATE TEMP TABLE expired AS
SELECT u.time, u.identity, u.provider, u.model, u.agent, u.calls - coalesce(p.calls, 0) AS calls,
    max(0, u.failed - coalesce(p.failed, 0)) AS failed,
    {", ".join(f"max(0, u.{name} - coalesce(p.{name}, 0)) AS {name}" for name in _SUMS if name != "cache_saved")}
FROM usage_hourly u LEFT JOIN ({_PRESENT}) p USING (time, identity, provider, model, agent)
WHERE u.time IN (SELECT time FROM partial) AND u.calls > coalesce(p.calls, 0)
"""  # noqa: S608 (our own names)


def _kept(outcome: str, condition: str, calls: str, *, amounts: bool) -> tuple[str, str]:
    """Return two SQL statements that convert hourly totals of calls that are no longer stored (table `expired`).

    Only the rows that meet `condition` are converted. The first statement inserts a row into `series` for each
    combination of identity, provider, model and agent, with the outcome `outcome`. The second inserts the sums.
    `calls` is an SQL expression for the number of calls. If `amounts` is False, tokens, costs and all other amounts are
    inserted as 0.
    """
    series = f"INSERT OR IGNORE INTO series ({_KEY}) SELECT identity, provider, model, agent, '', 0, '{outcome}' FROM expired WHERE {condition}"  # noqa: E501, S608 (our own names)
    kept = ", ".join(("0" if name == "cache_saved" else f"e.{name}") if amounts else "0" for name in _SUMS)
    zeros = ", ".join("0" for _ in (*_DURATIONS, *_FIRST_EVENTS))
    figures = f"""
    INSERT INTO figures_quarter SELECT e.time, s.n, {calls}, {kept}, {zeros} FROM expired e
    JOIN series s ON s.identity = e.identity AND s.provider = e.provider AND s.model = e.model AND s.agent = e.agent
        AND s.api = '' AND s.status = 0 AND s.outcome = '{outcome}'
    WHERE {condition}
    """  # noqa: S608 (our own names)
    return series, figures


FIGURES_OF_CALLS: Final = (
    "ALTER TABLE calls ADD COLUMN cache_saved INTEGER",
    "ALTER TABLE sessions ADD COLUMN cache_saved INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TABLE series (
        n INTEGER PRIMARY KEY,
        identity TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        agent TEXT NOT NULL,
        api TEXT NOT NULL,
        status INTEGER NOT NULL,
        outcome TEXT NOT NULL
    )
    """,
    f"CREATE UNIQUE INDEX series_by_values ON series ({_KEY})",
    f"""
    INSERT INTO series ({_KEY})
    SELECT DISTINCT identity, provider, iif(provider = '', '', model), agent, api, status, outcome FROM calls
    """,  # noqa: S608 (our own names)
    _table("figures_quarter"),
    _table("figures_hour"),
    _table("figures_day"),
    _table("figures_period"),
    _COUNTED,
    _PARTIAL,
    _EXPIRED,
    # all amounts go with the calls that succeeded, if there were any
    *_kept("ok", "calls > failed", "e.calls - e.failed", amounts=True),
    *_kept("failed", "failed > 0 AND calls > failed", "e.failed", amounts=False),
    *_kept("failed", "failed >= calls", "e.calls", amounts=True),
    "DROP TABLE temp.expired",
    "DROP TABLE temp.partial",
    _coarser("figures_hour", "figures_quarter", 3_600_000),
    _coarser("figures_day", "figures_hour", 86_400_000),
    _coarser("figures_period", "figures_day", 32 * 86_400_000),
    f"""
    INSERT OR IGNORE INTO series ({_KEY})
    SELECT DISTINCT '', provider, model, '', api, status, outcome FROM series
    """,  # noqa: S608 (our own names)
    *(statement for level in ("quarter", "hour", "day", "period") for statement in _of_everybody(level)),
    "DROP TABLE usage_hourly",
    "DROP TABLE usage_daily",
    """
    CREATE TABLE tools_quarter (
        time INTEGER NOT NULL,
        series INTEGER NOT NULL REFERENCES series (n),
        tool TEXT NOT NULL,
        calls INTEGER NOT NULL,
        PRIMARY KEY (time, series, tool)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tools_day (
        time INTEGER NOT NULL,
        series INTEGER NOT NULL REFERENCES series (n),
        tool TEXT NOT NULL,
        calls INTEGER NOT NULL,
        PRIMARY KEY (time, series, tool)
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO tools_quarter
    SELECT at - at % 900000, s.n, t.value, count(*) FROM calls c
    JOIN json_each(c.tools) t JOIN series s ON s.identity = c.identity AND s.provider = c.provider
        AND s.model = iif(c.provider = '', '', c.model) AND s.agent = c.agent AND s.api = c.api AND s.status = c.status
        AND s.outcome = c.outcome
    WHERE c.tools <> '[]' GROUP BY 1, 2, 3
    """,
    "INSERT INTO tools_day SELECT time - time % 86400000, series, tool, sum(calls) FROM tools_quarter GROUP BY 1, 2, 3",
    """
    CREATE TABLE error_kinds (
        n INTEGER PRIMARY KEY,
        code TEXT NOT NULL,
        native TEXT NOT NULL,
        provider TEXT NOT NULL,
        shape TEXT NOT NULL,
        message TEXT NOT NULL,
        example TEXT NOT NULL,
        at INTEGER NOT NULL,
        UNIQUE (code, native, provider, shape)
    )
    """,
    """
    CREATE TABLE errors_quarter (
        time INTEGER NOT NULL,
        series INTEGER NOT NULL REFERENCES series (n),
        kind INTEGER NOT NULL REFERENCES error_kinds (n),
        calls INTEGER NOT NULL,
        PRIMARY KEY (time, series, kind)
    ) WITHOUT ROWID
    """,
    # SQLite takes the columns beside max() from the row with the maximum
    """
    INSERT INTO error_kinds (code, native, provider, shape, message, example, at)
    SELECT error, error_native, provider, '', error_message, id, max(at) FROM calls
    WHERE outcome <> 'ok' AND error <> '' GROUP BY 1, 2, 3
    """,
    """
    INSERT INTO errors_quarter
    SELECT c.at - c.at % 900000, s.n, k.n, count(*) FROM calls c
    JOIN error_kinds k ON k.code = c.error AND k.native = c.error_native AND k.provider = c.provider
    JOIN series s ON s.identity = c.identity AND s.provider = c.provider
        AND s.model = iif(c.provider = '', '', c.model) AND s.agent = c.agent AND s.api = c.api AND s.status = c.status
        AND s.outcome = c.outcome
    WHERE c.outcome <> 'ok' AND c.error <> '' GROUP BY 1, 2, 3
    """,
    """
    CREATE TABLE health (
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        success_at INTEGER NOT NULL,
        error_at INTEGER NOT NULL,
        error TEXT NOT NULL,
        message TEXT NOT NULL,
        call TEXT NOT NULL,
        PRIMARY KEY (provider, model)
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO health SELECT provider, model, max(iif(outcome = 'ok', at, -1)), -1, '', '', '' FROM calls
    WHERE provider <> '' AND outcome IN ('ok', 'failed') GROUP BY 1, 2
    """,
    """
    UPDATE health SET (error_at, error, message, call) = (SELECT max(at), error, error_message, id FROM calls c
        WHERE c.provider = health.provider AND c.model = health.model AND c.outcome = 'failed')
    WHERE (provider, model) IN (SELECT provider, model FROM calls WHERE outcome = 'failed')
    """,
)
