"""The restart that SIGUSR2 begins: a child process with the same command line takes over from this process."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from typing import Final

from gateway.telemetry.log import Logger

TAKE_OVER: Final = "--take-over"


class Restarts:
    """The child processes that were started to replace this process. At most one of them runs at a time."""

    def __init__(self, command: Sequence[str], log: Logger) -> None:
        self._command = command
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start a child process. If an earlier child is still running, do nothing."""
        if self._child is not None and self._child.poll() is None:
            return
        try:
            self._child = subprocess.Popen(self._command)  # noqa: S603 (the command of this process)
        except OSError as error:
            self._log.warning("restart.failed", reason=str(error))
            return
        # asyncio would kill a child that outlives the loop, so a thread waits for the child
        threading.Thread(target=self._wait, args=(self._child,), name="restart", daemon=True).start()

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        if status := child.wait():
            self._log.warning("restart.failed", reason=f"the new process ended with status {status}", process=child.pid)


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command line of the new process. `arguments` is the command line of this process."""
    return [*arguments, *(() if TAKE_OVER in arguments else (TAKE_OVER,))]
