"""A gateway's access to the bank in a PostgreSQL database. The bank keeps the balances of quotas that several gateways
share, and leases parts of them to gateways (`money/quotas/leases.py`).

The bank has its own connection, so that a call that waits for a lease does not also wait for a batch of records. Each
request is one transaction. `shared_balances.py` has the statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Final

from gateway.money.quotas.buckets import Charge, Rule
from gateway.money.quotas.leases import Answer, Ask, Standing
from gateway.store.postgres.address import Address
from gateway.store.postgres.connection import PostgresConnection
from gateway.store.postgres.shared_balances import (
    answer_all,
    create_balances,
    end_silent,
    leave,
    open_leases,
    refill,
    renew,
    standings,
)
from gateway.store.postgres.thread import PostgresThread

OVERLAP_SECONDS: Final = 60.0
"""Overlap in seconds between the time ranges of one read of changed balances and the next.

A transaction commits somewhat later than the time that it writes into its rows. Without an overlap, a read could miss
such a row."""


class PostgresBank:
    """The `Bank` (balances of quotas that gateways share) for the gateway whose journal has the id `journal`. Leases
    last for `seconds`.

    Each method raises `StoreFailed` if the server cannot be reached or refuses a statement.
    """

    def __init__(self, address: Address, journal: str, seconds: float) -> None:
        self._journal = journal
        self._seconds = seconds
        self._thread = PostgresThread(address, "bank", lambda _connection: None)
        self._epoch = 0
        """The number that the database gave to the last `open`. A newer process of this gateway gets a higher number.
        The value is 0 before the first `open`.
        """
        self._end_at = 0.0
        """Time, by `monotonic`, of the next search for gateways that no longer renew their leases."""
        self._seen_at = 0.0
        """The time of the newest balance that was read, in Unix time by the server's clock."""

    @property
    def name(self) -> str:
        return "the database"

    @property
    def needs_reports(self) -> bool:
        return True

    async def open(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        return await self._thread.run(partial(self._open, asks=asks))

    def _open(self, connection: PostgresConnection, asks: Sequence[Ask]) -> Sequence[Answer]:
        create_balances(connection, asks)
        with connection.transaction():
            epoch, state = open_leases(connection, self._journal, self._seconds)
            answers = answer_all(connection, self._journal, state, asks)
        self._epoch, self._seen_at = epoch, state.now
        return answers

    async def exchange(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        return await self._thread.run(partial(self._exchange, asks=asks))

    def _exchange(self, connection: PostgresConnection, asks: Sequence[Ask]) -> Sequence[Answer]:
        create_balances(connection, asks)
        with connection.transaction():
            state = renew(connection, self._journal, self._epoch, self._seconds)
            answers = answer_all(connection, self._journal, state, asks)
        if monotonic() >= self._end_at:
            self._end_at = monotonic() + self._seconds / 4
            end_silent(connection, self._seconds)
        return answers

    async def leave(self) -> None:
        await self._thread.run(partial(leave, journal=self._journal, epoch=self._epoch))

    async def standings(self) -> Sequence[Standing]:
        since = self._seen_at - OVERLAP_SECONDS
        found = await self._thread.run(partial(standings, journal=self._journal, since=since))
        self._seen_at = max([self._seen_at, *(one.at for one in found)])
        return found

    async def refill(self, bucket: str, rule: Rule, amount: int) -> Charge:
        return await self._thread.run(partial(refill, name=bucket, rule=rule, amount=amount), once=True)

    async def close(self) -> None:
        await self._thread.close()
