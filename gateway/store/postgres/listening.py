"""A thread that receives the notifications of other gateways (PostgreSQL's LISTEN and NOTIFY)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from gateway.store.postgres.address import Address
from gateway.store.postgres.connection import FAILURES, connect

AGAIN_SECONDS: Final = 2.0
"""Seconds after which the thread connects again. Notifications that are sent meanwhile are lost. This does no harm:
without a notification, the gateway only learns of a change somewhat later.
"""
CHECK_SECONDS: Final = 15.0
"""Seconds between two checks that the server still answers."""

Heard = Callable[[str], None]
"""A function that gets the text of a notification. It is called on the event loop of the gateway."""


class Listener:
    """Calls a function for each notification that arrives between `start` and `close`.

    `heard` maps each channel to its function.
    """

    def __init__(self, address: Address, heard: Mapping[str, Heard]) -> None:
        self._address = address
        self._heard = heard
        self._own_loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="store-listener", daemon=True)
        self._gateway_loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to listen. Call this on the event loop of the gateway."""
        self._gateway_loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Stop listening, and end the thread."""
        if self._thread.is_alive():
            self._own_loop.call_soon_threadsafe(self._cancel)
            await asyncio.to_thread(self._thread.join)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        self._task = self._own_loop.create_task(self._listen())
        with suppress(asyncio.CancelledError):
            self._own_loop.run_until_complete(self._task)
        self._own_loop.close()

    async def _listen(self) -> None:
        while True:
            with suppress(*FAILURES):
                await self._listen_once()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _listen_once(self) -> None:
        connection = await connect(self._address, "listener")
        try:
            for channel in self._heard:
                await connection.add_listener(channel, self._pass)
            while not connection.is_closed():
                await asyncio.sleep(CHECK_SECONDS)
                await connection.fetchval("SELECT 1")
        finally:
            connection.terminate()
            # asyncpg's transport is closed by the loop's next round
            await asyncio.sleep(0)

    def _pass(self, _connection: Any, _process: int, channel: str, text: str) -> None:
        loop = self._gateway_loop
        assert loop is not None, "the thread was started"
        with suppress(RuntimeError):  # the loop of the gateway has ended
            loop.call_soon_threadsafe(self._heard[channel], text)
