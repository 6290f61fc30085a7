"""A connection to PostgreSQL, with the only thread that uses the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Final, TypeVar

from gateway.store.base import StoreFailed
from gateway.store.postgres.address import Address, Role
from gateway.store.postgres.connection import FAILURES, PostgresConnection

T = TypeVar("T")

REST_SECONDS: Final = 1.0
"""Seconds after a failed attempt to connect in which no new attempt is made. Requests in this time fail at once,
instead of waiting for an attempt of their own to fail."""


class PostgresThread:
    """A connection, and the only thread that uses it.

    The connection is made when it is first needed, and again after an error. `prepare` is run with each new connection.
    """

    def __init__(self, address: Address, role: Role, prepare: Callable[[PostgresConnection], None]) -> None:
        self._address = address
        self._role = role
        self._prepare = prepare
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=f"store-{role}")
        self._connection: PostgresConnection | None = None
        self._failure = ""
        self._failed_at = -REST_SECONDS

    async def run(self, work: Callable[[PostgresConnection], T], *, once: bool = False) -> T:
        """Run a function with the connection as its argument, in the thread.

        If the server has ended the connection since its last use, the function runs again with a new connection. But
        with `once`, and in the thread that writes, it runs only once. Raises `StoreFailed` if the server cannot be
        reached or refuses a statement.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work, once)

    def run_now(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run a function with the connection as its argument, in the thread, and block until the function has ended.

        Use this only at the start of the gateway, before it accepts calls. Raises `StoreFailed` if the server cannot be
        reached or refuses a statement.
        """
        return self._threads.submit(self._run, work, True).result()

    def _run(self, work: Callable[[PostgresConnection], T], once: bool) -> T:
        former = self._connection
        try:
            return self._attempt(work)
        except FAILURES as error:
            is_outdated = former is not None and former.is_lost
            self._close()
            if not is_outdated or once or self._role == "writer":
                raise StoreFailed(f"{self._address}: {_text(error)}") from error
        # the server was restarted since the last use, so a new connection may succeed
        try:
            return self._attempt(work)
        except FAILURES as error:
            self._close()
            raise StoreFailed(f"{self._address}: {_text(error)}") from error

    def _attempt(self, work: Callable[[PostgresConnection], T]) -> T:
        if self._connection is None:
            self._connection = self._connected()
        return work(self._connection)

    def _connected(self) -> PostgresConnection:
        if monotonic() - self._failed_at < REST_SECONDS:
            raise StoreFailed(self._failure)
        try:
            connection = PostgresConnection(self._address, self._role)
        except FAILURES as error:
            self._failed_at = monotonic()
            self._failure = f"{self._address}: cannot be connected to: {_text(error)}"
            raise StoreFailed(self._failure) from error
        try:
            self._prepare(connection)
        except BaseException:
            # the next use connects anew
            connection.close()
            raise
        return connection

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._close)
        self._threads.shutdown()

    def close_now(self) -> None:
        """Close the connection, and block until it is closed. Use this only if the start of the gateway has failed."""
        self._threads.submit(self._close).result()
        self._threads.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _text(error: BaseException) -> str:
    """Return the first line of an error's message. In a message of asyncpg, further lines are advice for developers."""
    lines = str(error).splitlines()
    return (
        lines[0]
        if lines and lines[0]
        else "it did not answer in time"
        if isinstance(error, TimeoutError)
        else repr(error)
    )
