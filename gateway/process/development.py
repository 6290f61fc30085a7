"""`irisgate serve --dev`: a gateway that loads new code of plugins whenever a file of their folder changes.

- The gateway runs in a child process. After a change, or at SIGHUP, a second child process starts with the new code and
  takes over from the first (`handover`). Calls in flight keep the code with which they began.
- If a child process cannot start, for example because of a mistake in a plugin, it prints the reason to standard error.
  The earlier child process continues to serve.
- Each child process has its own process group. So Ctrl-C in a terminal reaches only this process, which passes the
  signal on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.config.document.watch import watch
from gateway.contract.plugin_files import python_files
from gateway.process.output import complain
from gateway.process.restarts import command
from gateway.process.systemd import READY

OPTION: Final = "--dev"


def child_command(arguments: Sequence[str]) -> list[str]:
    """Return the command line of a child process. `arguments` is the command line of this process."""
    return [argument for argument in arguments if not (len(argument) > 2 and OPTION.startswith(argument))]


async def develop(arguments: Sequence[str], folder: Path) -> int:
    """Serve until a signal, with the newest code of the plugins in `folder`. Return the exit status.

    `arguments` is the command line of this process.
    """
    with tempfile.TemporaryDirectory(prefix="irisgate-dev-") as sockets:
        family = _Family(child_command(arguments), Path(sockets))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, family.end, number)
        loop.add_signal_handler(signal.SIGHUP, family.changed.set)
        tasks = [asyncio.create_task(_watch(folder, family.changed))]
        try:
            if status := await family.start():
                return status
            tasks.append(asyncio.create_task(family.follow()))
            return await family.last_status()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(folder: Path, changed: asyncio.Event) -> None:
    """Set `changed` after each change of a Python file of the folder."""

    def files() -> list[Path]:
        with suppress(OSError):
            # the first path, which need not exist, has the folder itself watched
            return [folder / "__init__.py", *python_files(folder)]
        return []

    async with aclosing(watch(files)) as changes:
        async for _ in changes:
            changed.set()


@dataclass(slots=True)
class _Family:
    """The child processes. One of them serves. Others are starting, or were replaced and have not ended yet."""

    command: Sequence[str]
    sockets: Path
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """An event that is set to request a child process with new code."""
    _children: list[asyncio.subprocess.Process] = field(default_factory=list)
    """The child processes, in the order of their start."""
    _current: asyncio.subprocess.Process | None = None
    """The child process that serves now, or that served last."""
    _is_ending: bool = False
    _started: int = 0

    def end(self, number: int) -> None:
        """Send the signal `number` to all child processes, and start no further child process from now on."""
        self._is_ending = True
        for child in self._children:
            with suppress(ProcessLookupError):
                child.send_signal(number)

    async def follow(self) -> None:
        """Start a child process that takes over from the present one, each time `changed` is set.

        Runs until it is cancelled.
        """
        while True:
            await self.changed.wait()
            self.changed.clear()
            if not self._is_ending and await self.start():
                complain("irisgate serve --dev: the change is not taken; the gateway serves on with the code before it")

    async def start(self) -> int:
        """Start a child process, and wait until it serves or ends. Return 0 if it serves, else its exit status."""
        self._started += 1
        path = self.sockets / str(self._started)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.setblocking(False)
            receiver.bind(str(path))
            line = self.command if self._current is None else command(self.command)
            environment = {**os.environ, "NOTIFY_SOCKET": str(path)}
            child = await asyncio.create_subprocess_exec(*line, env=environment, process_group=0)
            self._children.append(child)
            if self._is_ending:
                child.terminate()
            ready, ended = asyncio.create_task(_ready(receiver)), asyncio.create_task(child.wait())
            await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)
        if child.returncode is not None and not self._is_ending:
            return _exit_status(child.returncode) or 1
        self._current = child
        return 0

    async def last_status(self) -> int:
        """Wait until all child processes have ended, and return the exit status of the one that served last."""
        while self._children:
            child = self._children[-1]
            await child.wait()
            self._children.remove(child)
        served = None if self._current is None else self._current.returncode
        return _exit_status(served or 0)


def _exit_status(returned: int) -> int:
    """Return the exit status as a shell shows it: 128 plus the signal's number if a signal ended the process."""
    return returned if returned >= 0 else 128 - returned


async def _ready(receiver: socket.socket) -> None:
    """Wait until the child process reports on the socket `receiver` that it serves (`READY` in systemd's protocol)."""
    while READY not in (await asyncio.get_running_loop().sock_recv(receiver, 1024)).decode().splitlines():
        pass
