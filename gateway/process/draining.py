"""Functions that wait before the process ends: for a signal, for calls in flight, and for clients to disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

LAST_WORD_SECONDS: Final = 1.0
"""Seconds in which cancelled calls can send an error to their clients and write their records."""
LEFT_POLL_SECONDS: Final = 0.1
"""Seconds between two checks whether clients are still connected to a replaced process."""


async def first(*events: asyncio.Event) -> None:
    """Wait until one of several events is set."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def left(has_clients: Callable[[], bool], stop: asyncio.Event) -> None:
    """Wait, in a replaced process, until no client is connected or `stop` is set.

    Clients disconnect because replies ask them to reconnect, and because idle connections are closed after
    `idle_seconds`.
    """
    while has_clients() and not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(LEFT_POLL_SECONDS):
                await stop.wait()


async def drained(calls: set[asyncio.Task[Any]], hurry: asyncio.Event, seconds: float) -> None:
    """Wait for calls in flight, for at most `seconds`, or until `hurry` is set.

    Then cancel the remaining calls. They have `LAST_WORD_SECONDS` to send an error to their clients.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    hurrying = asyncio.create_task(hurry.wait())
    while (waiting := _unfinished(calls)) and not hurrying.done() and (rest := end - loop.time()) > 0:
        await asyncio.wait({*waiting, hurrying}, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    if unfinished := _unfinished(calls):
        for task in unfinished:
            task.cancel()
        await asyncio.wait(unfinished, timeout=LAST_WORD_SECONDS)


def _unfinished(calls: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    return {task for task in calls if not task.done()}
