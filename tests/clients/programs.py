"""A client that is a program of its own: run as a user has it who has set nothing else, and kept on this machine."""

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.clients.samples import program

TIMEOUT_SECONDS = 60
NOWHERE = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}
"""Environment that leads all requests of a program, except those to the gateway, to a port where nobody listens."""


@dataclass
class Program:
    """A program in a folder of its own, with a home of its own."""

    path: str
    folder: Path
    environ: dict[str, str]

    async def run(self, *arguments):
        """Exit status and all output."""
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
                # whatever the program started ends with it
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode, out.decode()


def npm(name, folder, kind=Program, **environ):
    """A program that npm installed, in new folders `home` and `work` below `folder`; skips where it is not there."""
    path = program(name, "node_modules", ".bin")
    for below in ("home", "work"):
        (folder / below).mkdir()
    own = {"PATH": os.environ["PATH"], "HOME": str(folder / "home")}
    return kind(path, folder / "work", {**own, **NOWHERE, **environ})
