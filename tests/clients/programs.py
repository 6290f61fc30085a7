"""Clients that are separate programs. They run with a new home folder, and their requests stay on this machine."""

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.clients.samples import program

TIMEOUT_SECONDS = 300
"""Seconds after which a program is ended. On a busy machine, opencode takes a minute for two calls."""
NOWHERE = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}
"""Environment variables that keep a program's requests on this machine: all requests except those to the gateway go to
a port on which nobody listens.
"""


@dataclass
class Program:
    """A program with its own working folder and home folder."""

    path: str
    folder: Path
    environ: dict[str, str]

    async def run(self, *arguments):
        """Run the program. Return its exit status and everything that it printed."""
        # opencode unpacks a library of 5.6 MB there at each start, and leaves it
        with TemporaryDirectory() as temporary:
            process = await asyncio.create_subprocess_exec(
                self.path, *arguments,
                env={**self.environ, "TMPDIR": temporary},
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                out, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
            finally:
                # this also ends whatever the program has started
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode, out.decode()


def npm(name, folder, kind=Program, **environ):
    """Return a program that npm has installed. It runs in the new folders `home` and `work` below `folder`.

    The test is skipped if the program is not installed.
    """
    path = program(name, "node_modules", ".bin")
    for below in ("home", "work"):
        (folder / below).mkdir()
    own = {"PATH": os.environ["PATH"], "HOME": str(folder / "home")}
    return kind(path, folder / "work", {**own, **NOWHERE, **environ})
