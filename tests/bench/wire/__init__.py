"""The upstream and the load client, which are compiled when the benchmarks begin.

They are written in C, because they must cost little beside what is measured.
"""

import asyncio
import json
import shutil
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.processes import LOAD, on_processor

HERE = Path(__file__).parent
PROGRAMS = ("upstream", "load")


class NoCompiler(Exception):
    """The error for a machine without a C compiler."""


def compile_programs(folder):
    """Compile the upstream and the load client into the folder. Raises `NoCompiler` if there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompiler("there is no C compiler (cc)")
    for name in PROGRAMS:
        flags = ("-O2", "-Wall", "-Wextra", "-Werror")
        subprocess.run([compiler, *flags, "-o", folder / name, HERE / f"{name}.c"], check=True)


class Wire:
    """The running upstream, and the load client."""

    def __init__(self, programs, folder, process, port):
        self.port = port
        self._programs = programs
        self._folder = folder
        self._process = process

    @property
    def pid(self):
        """The process id of the upstream."""
        return self._process.pid

    async def reply(self, reply, *, count=0, interval_us=0, stagger=0):
        """Choose the reply to all later requests: a head, `count` chunks, and a tail.

        `interval_us` are the microseconds before each chunk. The first `stagger` streams have fewer chunks, so that
        streams that begin together do not end together.
        """
        paths = [self._written(f"reply-{name}", getattr(reply, name)) for name in ("head", "chunk", "tail")]
        words = (*paths, count, interval_us, stagger, reply.stamp_at, *reply.crc)
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        assert (await self._process.stdout.readline()) == b"ready\n"

    async def load(self, port, request, **load):
        """Run the load client for one window, and return its results. See `windows` for the arguments."""
        async with self.windows(port, request, **load) as window:
            return await window()

    @asynccontextmanager
    async def windows(self, port, request, *, connections, warm_ms, window_ms, drained, pids=(), preface=b""):
        """Run the load client during an `async with` block.

        The block gets a function that measures one window and returns the results. All windows use the same
        connections. If `drained` is true, a window ends only when all of its requests have a reply. If `window_ms` is
        0, each connection sends one request in each window.
        """
        files = (self._written("preface", preface), self._written("request", request))
        words = (port, *files, connections, warm_ms, window_ms, int(drained), *pids)
        with on_processor(LOAD):
            process = await asyncio.create_subprocess_exec(
                self._programs / "load", *map(str, words), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )

        async def window():
            process.stdin.write(b"\n")
            line = await process.stdout.readline()
            assert line, "the load client failed"
            return json.loads(line)

        try:
            yield window
        finally:
            process.stdin.close()
            await process.wait()

    def _written(self, name, data):
        path = self._folder / name
        path.write_bytes(data)
        return path


@asynccontextmanager
async def wire(programs, folder):
    """Run the upstream (a simulated provider in C) during an `async with` block. `programs` is the folder of the
    compiled programs.
    """
    with on_processor(LOAD):
        process = await asyncio.create_subprocess_exec(
            programs / "upstream", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
    try:
        yield Wire(programs, folder, process, int(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()
