"""Interrupts a plugin's hook that blocks the event loop for too long. Only that hook's call fails.

- Hooks run on the event loop. While one of them sleeps or loops, all calls wait.
- The event loop regularly postpones a timer of the operating system (SIGALRM). If the loop is blocked, the timer is not
  postponed, and the signal comes. The signal handler interrupts a hook that has run for `HOOK_SECONDS`.
- The interruption is an exception in the plugin's code. `contract/hooks.py` reports it like any other exception.
- A long computation in C code cannot be interrupted. The exception is raised when the C code returns.

Worker processes have an alarm of their own (`upstream/process_pool.py`).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Final

from gateway.contract.hooks import HookTooSlow, running_hook

HOOK_SECONDS: Final = 5.0
"""Seconds after which a hook is interrupted. Hooks take less than a second for the largest body, and a few seconds on a
busy machine."""
BEATS: Final = 4
"""Number of equal periods into which `HOOK_SECONDS` is divided.

The alarm signal is due at the end of each period. An event loop that is not blocked postpones the signal before it is
due. So the signal comes, once in each period, only while the loop is blocked.
"""


@contextmanager
def hook_alarm(seconds: float = HOOK_SECONDS) -> Iterator[None]:
    """Interrupt hooks that block the running event loop during this `with` block. The loop must run in the main
    thread.
    """
    alarm = _Alarm(seconds)
    former = signal.signal(signal.SIGALRM, alarm.ring)
    alarm.beat()
    try:
        yield
    finally:
        alarm.cancel()
        signal.signal(signal.SIGALRM, former)


class _Alarm:
    """The handler of the alarm signal. It knows which hook call was running when the signal last came."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._period = seconds / BEATS
        self._loop = asyncio.get_running_loop()
        self._frame: FrameType | None = None
        self._since = 0.0
        """Monotonic time in seconds at which the signal first found the hook call `_frame` running."""

    def beat(self) -> None:
        """Postpone the alarm. The event loop calls this method regularly as long as nothing blocks the loop."""
        self._frame = None
        signal.setitimer(signal.ITIMER_REAL, 2 * self._period, self._period)
        self._timer = self._loop.call_later(self._period, self.beat)

    def cancel(self) -> None:
        self._timer.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)

    def ring(self, _number: int, frame: FrameType | None) -> None:
        """Handle the alarm signal: remember the running hook call, and since when it has been running.

        Raises `HookTooSlow` in the plugin's code if the same hook call has run for too long.
        """
        running = running_hook(frame)
        if running is None or running is not self._frame:
            self._frame, self._since = running, monotonic()
        elif monotonic() - self._since >= self._seconds - 2 * self._period:
            self._frame = None
            raise HookTooSlow(f"held the event loop for {self._seconds:g} seconds")
