"""SQL for quota balances that several gateways share, and for leases. A lease is the part of a balance that one gateway
may spend (`money/quotas/leases.py`).

- The cost of a call is charged to the balances in the transaction that writes the call's record (`charge`).
- Rate limits are charged differently, because the record of a call does not have these charges. When a gateway requests
  a lease of a rate limit, the request has the total that the gateway has charged to the limit (`Ask.spent`).
- Rows of balances are locked in the order of their names, so that two transactions never wait for each other.
- Times are those of the database's server. So the clocks of gateways do not matter.

`bank.py` runs these functions for the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from gateway.money.quotas.buckets import SECOND, Bucket, Charge, LiveBucket, Rule, nanoseconds
from gateway.money.quotas.leases import Answer, Ask, Lease, NotOpen, Standing, answer_to
from gateway.store.calls import CALL_COLUMNS
from gateway.store.entries import Entry, decode_sent_call
from gateway.store.postgres.connection import PostgresConnection
from gateway.store.postgres.dialect import clamped, storable
from gateway.store.sql_reader import LIMIT_PREFIX

RECALLED: Final = "irisgate_recalled"
"""PostgreSQL's channel on which gateways are notified that a lease was refused. The payload is the name of the quota
bucket. Other gateways have leased parts of its balance, and now give back what they do not need."""
REFILLED: Final = "irisgate_refilled"
"""PostgreSQL's channel on which gateways are notified that an administrator has refilled a bucket. The payload is the
name of the bucket.
"""
MAX_PAYLOAD: Final = 7_900
"""Maximum number of bytes of a bucket's name in a notification. PostgreSQL allows 7,999. In place of a longer name, ""
is sent, which stands for all buckets."""
MARGIN_SECONDS: Final = 2.0
"""Seconds for which the database keeps a lease after the lease has ended, because the gateway's clock may be slower
than the server's."""
FORGOTTEN_SECONDS: Final = 86_400.0
"""Seconds after which a gateway that no longer renews its leases is deleted from the database. Until then, the cost of
its open calls stays reserved."""
LIMIT_SECONDS: Final = 35 * 86_400.0
"""Seconds for which an unused bucket of a rate limit is kept in the database. After this time, nearly every such bucket
is full again, like a new one."""

_NOW: Final = "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"
_CHARGES: Final = CALL_COLUMNS.index("charges")
_OPEN: Final = f"""
INSERT INTO gateways (journal, epoch, ends_at, is_ended) VALUES (?, 1, {_NOW} + ?, FALSE)
ON CONFLICT (journal) DO UPDATE SET epoch = gateways.epoch + 1, ends_at = excluded.ends_at, is_ended = FALSE
RETURNING epoch, ends_at, (SELECT count(*) FROM gateways WHERE NOT is_ended)
"""  # noqa: S608 (our own names)
_RENEW: Final = f"""
UPDATE gateways SET ends_at = {_NOW} + ?, is_ended = FALSE WHERE journal = ? AND epoch = ?
RETURNING {_NOW}, (SELECT count(*) FROM gateways WHERE NOT is_ended)
"""  # noqa: S608 (our own names)
_NEW_BALANCES: Final = f"""
INSERT INTO balances (bucket, amount, remainder, at, terms, terms_at)
SELECT bucket, amount, 0, {_NOW}, terms, since FROM
    unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS TEXT[]), CAST(? AS DOUBLE PRECISION[]))
    AS new (bucket, amount, terms, since)
ON CONFLICT (bucket) DO NOTHING
"""  # noqa: S608 (our own names)
_LOCKED: Final = """
SELECT bucket, amount, remainder, at, terms, terms_at FROM balances WHERE bucket = ANY(CAST(? AS TEXT[]))
ORDER BY bucket FOR UPDATE
"""
_LEASED: Final = """
SELECT bucket, coalesce(max(granted) FILTER (WHERE journal = ?), 0), coalesce(max(spent) FILTER (WHERE journal = ?), 0),
    CAST(coalesce(sum(GREATEST(granted - spent, 0)) FILTER (WHERE journal <> ?), 0) AS BIGINT)
FROM leases WHERE bucket = ANY(CAST(? AS TEXT[])) GROUP BY bucket
"""
_TIME: Final = f"SELECT {_NOW}"
_UPDATE: Final = """
UPDATE balances b SET amount = n.amount, remainder = n.remainder, at = n.at, terms = n.terms, terms_at = n.terms_at
FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS DOUBLE PRECISION[]),
    CAST(? AS TEXT[]), CAST(? AS DOUBLE PRECISION[])) AS n (bucket, amount, remainder, at, terms, terms_at)
WHERE b.bucket = n.bucket
"""
_GRANT: Final = f"""
WITH updated AS ({_UPDATE})
INSERT INTO leases (bucket, journal, granted, spent)
SELECT bucket, CAST(? AS TEXT), granted, spent FROM
    unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS g (bucket, granted, spent)
ON CONFLICT (bucket, journal) DO UPDATE SET granted = excluded.granted, spent = excluded.spent
"""  # noqa: S608 (our own names)
_SPEND: Final = f"""
WITH updated AS ({_UPDATE})
INSERT INTO leases (bucket, journal, granted, spent)
SELECT bucket, CAST(? AS TEXT), 0, amount FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[])) AS s (bucket, amount)
ON CONFLICT (bucket, journal) DO UPDATE SET spent = leases.spent + excluded.spent
"""  # noqa: S608 (our own names)
_ENDED: Final = f"""
SELECT journal FROM gateways WHERE NOT is_ended AND ends_at < {_NOW} AND {_NOW} - ? >
    CAST(extract(epoch FROM pg_postmaster_start_time()) AS DOUBLE PRECISION) ORDER BY journal FOR UPDATE SKIP LOCKED
"""  # noqa: S608 (our own names)
_FORGET: Final = f"DELETE FROM gateways WHERE is_ended AND ends_at < {_NOW} - ? RETURNING journal"  # noqa: S608 (our own names)
_STANDINGS: Final = """
SELECT b.bucket, b.amount, b.remainder, b.at, b.terms, coalesce(l.spent, 0)
FROM balances b LEFT JOIN leases l ON l.bucket = b.bucket AND l.journal = ? WHERE b.at >= ? AND NOT b.bucket ^@ ?
"""
_OLD_LIMITS: Final = f"""
DELETE FROM balances b WHERE bucket ^@ ? AND at < {_NOW} - ?
    AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.bucket = b.bucket)
"""  # noqa: S608 (our own names)


class State(NamedTuple):
    """The server's time and the number of gateways, read when a gateway opens or renews its leases."""

    now: float
    """Unix time in seconds, by the server's clock."""
    gateways: int
    """Number of gateways that share the balances."""


class _Row(NamedTuple):
    """A row of the table `balances`: the bucket with its balance and rule, and the time at which the rule was set."""

    bucket: LiveBucket
    terms_at: float


def open_leases(connection: PostgresConnection, journal: str, seconds: float) -> tuple[int, State]:
    """Register a new process of a gateway, and delete the leases of the gateway's earlier processes. Return the epoch
    of the new process, and the `State`.

    The epoch is a number that is higher for each new process of the gateway. Later requests of the process must have
    it.
    """
    lasting = seconds + MARGIN_SECONDS
    epoch, ends_at, gateways = connection.execute(_OPEN, (journal, lasting)).fetchone()
    connection.execute("DELETE FROM leases WHERE journal = ?", (journal,))
    return epoch, State(ends_at - lasting, gateways)


def renew(connection: PostgresConnection, journal: str, epoch: int, seconds: float) -> State:
    """Renew the leases of a gateway. `epoch` is the result of `open_leases`.

    Raises `NotOpen` if another process of the gateway has called `open_leases` meanwhile, or if the gateway was deleted
    from the database (`FORGOTTEN_SECONDS`).
    """
    state = connection.execute(_RENEW, (seconds + MARGIN_SECONDS, journal, epoch)).fetchone()
    if state is None:
        raise NotOpen(journal)
    return State(*state)


def create_balances(connection: PostgresConnection, asks: Sequence[Ask]) -> None:
    """Insert rows for new buckets.

    Call this before the transaction of `answer_all`. If the rows were inserted within this transaction, while other
    rows are locked, two transactions could wait for each other.
    """
    fresh = {stored_name(ask.key): (ask.rule, ask.since) for ask in asks if not ask.known and not ask.spent}
    if fresh:
        _create(connection, dict(zip(storable(fresh), fresh.values(), strict=True)))


def answer_all(connection: PostgresConnection, journal: str, state: State, asks: Sequence[Ask]) -> Sequence[Answer]:
    """Answer a gateway's requests for leases (`asks`), within a transaction of the caller."""
    if not asks:
        return ()
    fresh = {stored_name(ask.key): (ask.rule, ask.since) for ask in asks}
    rows = _locked(connection, fresh)
    names = storable(rows)
    leased = {
        name: (Lease(granted, spent), elsewhere)
        for name, granted, spent, elsewhere in connection.execute(_LEASED, (journal, journal, journal, names))
    }
    now = nanoseconds(state.now)
    answers, recalled = [], []
    closed: list[str] = []
    leases: dict[str, Lease] = {}
    for ask in asks:
        (name,) = storable([stored_name(ask.key)])
        bucket, terms_at = rows[name]
        if ask.rule.terms != bucket.rule.terms and ask.since >= terms_at:
            bucket.change(ask.rule, now)
            rows[name] = _Row(bucket, ask.since)
        else:
            bucket.accrue(now)
        own, elsewhere = leased.get(name, (Lease(), 0))
        if ask.rule.kind != "money":
            bucket.charge(name, ask.spent - own.spent, now)
            own = own._replace(spent=ask.spent)
        lease, answer = answer_to(ask, bucket, own, elsewhere, state.gateways)
        if lease is None:
            closed.append(name)
        else:
            leases[name] = lease
        if answer.is_refused and elsewhere:
            recalled.append(name)
        answers.append(answer)
    granted, spent = (clamped(one[number] for one in leases.values()) for number in range(2))
    connection.execute(_GRANT, (*_columns(rows), journal, list(leases), granted, spent))
    if closed:
        statement = "DELETE FROM leases WHERE journal = ? AND bucket = ANY(CAST(? AS TEXT[]))"
        connection.execute(statement, (journal, closed))
    _notify(connection, RECALLED, recalled)
    return answers


def charge(
    connection: PostgresConnection, journal: str, entries: Sequence[Entry], new: Iterable[Sequence[Any]]
) -> None:
    """Charge calls to the quota buckets, within a transaction of the caller. `entries` is a batch of the journal.

    `new` are the rows of those calls that were not in the store before the batch. Only these are charged. All other
    calls of the batch were charged when they were first stored.
    """
    sums: dict[str, int] = {}
    for row in new:
        if row[_CHARGES] != "{}":
            for name, amount in orjson.loads(row[_CHARGES]).items():
                sums[name] = sums.get(name, 0) + amount
    if not sums:
        return
    terms = {balance.bucket: balance.terms for entry in entries for balance in entry.balances}
    fresh = {name: (Rule(name, 0).with_terms(terms.get(name, "")), 0.0) for name in sums}
    rows = _locked(connection, fresh)
    now = nanoseconds(connection.execute(_TIME).fetchone()[0])
    names = storable(sums)
    for name, amount in zip(names, sums.values(), strict=True):
        rows[name].bucket.charge(name, amount, now)
    connection.execute(_SPEND, (*_columns(rows), journal, names, clamped(sums.values())))


def refill(connection: PostgresConnection, name: str, rule: Rule, amount: int) -> Charge:
    """Add an amount to the balance of a quota bucket. The balance does not exceed the bucket's capacity.

    Return the added amount as a `Charge`, whose amount is negative.
    """
    with connection.transaction():
        rows = _locked(connection, {name: (rule, 0.0)})
        now = nanoseconds(connection.execute(_TIME).fetchone()[0])
        ((stored, (bucket, _)),) = rows.items()
        bucket.accrue(now)
        added = bucket.charge(name, -max(0, min(amount, bucket.rule.capacity - bucket.balance)), now)
        bucket.accrue(now)
        connection.execute(_UPDATE, _columns(rows))
        _notify(connection, REFILLED, [stored])
    return added


def end_silent(connection: PostgresConnection, seconds: float) -> int:
    """End the leases of gateways that have not renewed them in time. Return the number of these gateways.

    The maximum cost of their open calls stays reserved. If the database server started less than `seconds` ago, do
    nothing, because no gateway could renew its leases while the server was down.
    """
    with connection.transaction():
        silent = [journal for (journal,) in connection.execute(_ENDED, (seconds,)).fetchall()]
        for journal in silent:
            _end(connection, journal)
            connection.execute("UPDATE gateways SET is_ended = TRUE WHERE journal = ?", (journal,))
        for (journal,) in connection.execute(_FORGET, (FORGOTTEN_SECONDS,)).fetchall():
            connection.execute("DELETE FROM leases WHERE journal = ?", (journal,))
        connection.execute(_OLD_LIMITS, (LIMIT_PREFIX, LIMIT_SECONDS))
    return len(silent)


def _end(connection: PostgresConnection, journal: str) -> None:
    costs: dict[str, int] = {}
    for (line,) in connection.execute("SELECT line FROM open_calls WHERE journal = ?", (journal,)).fetchall():
        if (call := decode_sent_call(line)) is not None:
            for name in {chain[0][0] for chain in call.chains}:
                costs[name] = costs.get(name, 0) + (call.cost or 0)
    leases = connection.execute(
        "SELECT bucket, granted, spent FROM leases WHERE journal = ? ORDER BY bucket FOR UPDATE", (journal,)
    ).fetchall()
    ended = [(min(granted, spent + costs.get(name, 0)), name, journal) for name, granted, spent in leases]
    connection.executemany("UPDATE leases SET granted = ? WHERE bucket = ? AND journal = ?", ended)


def leave(connection: PostgresConnection, journal: str, epoch: int) -> None:
    """Delete a gateway and its leases from the database. Do nothing if a later process of the gateway has opened
    leases, so that `epoch` is not the newest.
    """
    with connection.transaction():
        statement = "DELETE FROM gateways WHERE journal = ? AND epoch = ? RETURNING 1"
        if connection.execute(statement, (journal, epoch)).fetchone() is not None:
            connection.execute("DELETE FROM leases WHERE journal = ?", (journal,))


def standings(connection: PostgresConnection, journal: str, since: float) -> Sequence[Standing]:
    """Return the balances of the quotas that have changed since the time `since`, in Unix seconds by the server's
    clock.
    """
    return [Standing(*row) for row in connection.execute(_STANDINGS, (journal, since, LIMIT_PREFIX))]


def stored_name(bucket: Bucket) -> str:
    """Return the name that a bucket has in the tables. The name of a quota's bucket is unchanged. For the bucket of a
    rate limit, `LIMIT_PREFIX` and the kind of the limit stand before the name.
    """
    return bucket.name if bucket.kind == "money" else f"{LIMIT_PREFIX}{bucket.kind} {bucket.name}"


def bucket_named(stored: str) -> Bucket:
    """Return the bucket whose name in the tables is `stored`."""
    if not stored.startswith(LIMIT_PREFIX):
        return Bucket("money", stored)
    kind, _, name = stored.removeprefix(LIMIT_PREFIX).partition(" ")
    return Bucket("requests" if kind == "requests" else "tokens", name)


def _locked(connection: PostgresConnection, fresh: Mapping[str, tuple[Rule, float]]) -> dict[str, _Row]:
    """Lock the rows of buckets in the table `balances`. Return the rows by the names that buckets have in the table.

    `fresh` has the gateway's rule for each bucket, and the time at which the gateway began to use this rule. A missing
    row is inserted, with this rule and a full balance. A row of an old release may have no rule. In this case, the
    returned row has the gateway's rule.
    """
    rules = dict(zip(storable(fresh), fresh.values(), strict=True))
    ordered = sorted(rules)
    found = connection.execute(_LOCKED, (ordered,)).fetchall()
    if len(found) < len(ordered):
        _create(connection, rules)
        found = connection.execute(_LOCKED, (ordered,)).fetchall()
    rows = {}
    for name, amount, remainder, at, stored, terms_at in found:
        rule = rules[name][0].with_terms(stored)
        rows[name] = _Row(LiveBucket(rule, amount, remainder, nanoseconds(at)), terms_at)
    return rows


def _create(connection: PostgresConnection, rules: Mapping[str, tuple[Rule, float]]) -> None:
    """Insert a row with a full balance for each bucket that has no row yet."""
    ordered = sorted(rules)
    new = [rules[name] for name in ordered]
    capacities, terms = clamped(rule.capacity for rule, _ in new), [rule.terms for rule, _ in new]
    connection.execute(_NEW_BALANCES, (ordered, capacities, terms, [since for _, since in new]))


def _columns(rows: Mapping[str, _Row]) -> tuple[Sequence[Any], ...]:
    """Return the values of rows as one list for each column, as the statement `_UPDATE` requires."""
    live = [row.bucket for row in rows.values()]
    return (
        list(rows),
        clamped(one.balance for one in live),
        clamped(one.remainder for one in live),
        [one.at / SECOND for one in live],
        [one.rule.terms for one in live],
        [row.terms_at for row in rows.values()],
    )


def _notify(connection: PostgresConnection, channel: str, names: Iterable[str]) -> None:
    for name in names:
        payload = name if len(name.encode()) <= MAX_PAYLOAD else ""
        connection.execute("SELECT pg_notify(?, ?)", (channel, payload))
