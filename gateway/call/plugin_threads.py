"""Runs functions of plugins with large arguments in threads, so that the event loop stays free.

- Methods of filters that are not `async` run in a thread if the request, reply or text is large. Long lists of models
  are also written in a thread.
- Each function runs in a new thread. So a function that never returns delays no other plugin. The thread is a daemon
  thread, so it does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

Outcome = tuple[Any, BaseException | None]
"""The result of a function, and its exception. The exception is None if the function raised none."""


def start(name: str, function: Callable[..., Any], args: Sequence[Any]) -> asyncio.Future[Outcome]:
    """Call a function in a new thread called `name`. Return the future that gets the outcome."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Outcome] = loop.create_future()

    def work() -> None:
        outcome = _outcome(function, args)
        with suppress(RuntimeError):  # the event loop has been closed
            loop.call_soon_threadsafe(_settle, future, outcome)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future


def _outcome(function: Callable[..., Any], args: Sequence[Any]) -> Outcome:
    try:
        return function(*args), None
    except BaseException as error:  # noqa: BLE001 (raised again in the task that waits for the outcome)
        return None, error


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
