"""The `irisgate` command in a separate process, as operators run it."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path

import aiohttp

from tests.helpers.forked import fork
from tests.helpers.gateway import HAIKU
from tests.helpers.waiting import SECONDS, eventually

START_SECONDS = 120
"""Maximum number of seconds for a process to start, to be replaced or to end. On a busy machine, a start may take half
a minute."""
ROOT = Path(__file__).resolve().parents[2]
CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
PAGE = re.compile(r"listening on (http://\S+)")


def environment(tmp_path, **more):
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "XDG_", "STATE_"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**variables, "HOME": str(tmp_path), "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", **more}


async def irisgate(tmp_path, *arguments, **more):
    """Run a command until it ends, and return its status, standard output and standard error."""
    process = await fork(arguments, cwd=tmp_path, env=environment(tmp_path, **more))
    async with asyncio.timeout(START_SECONDS):
        out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        return await process.wait(), out.decode(), err.decode()


class Served:
    """A gateway in a separate process."""

    def __init__(self, process, session):
        self.process = process
        self.session = session
        self.url = ""
        self.lines = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())

    async def line(self, pattern):
        """Wait for a line on standard output that matches the pattern, and return it."""
        return await eventually(
            lambda: next(filter(None, (re.search(pattern, line) for line in self.lines)), None), START_SECONDS
        )

    async def chat(self, **more):
        async with self.session.post(self.url + "/v1/chat/completions", json={**CHAT, **more}) as reply:
            return reply.status, await reply.read()

    async def stored(self, count=0):
        """Return all calls in the store. Wait for a while until there are at least `count`.

        A call is stored a moment after its client got the reply and its line was logged.
        """
        until = time.monotonic() + SECONDS

        async def look():
            calls = await self._listed()
            return (calls,) if len(calls) >= count or time.monotonic() > until else None

        (calls,) = await eventually(look, 2 * SECONDS)
        return calls

    async def bucket(self, name):
        """Return a bucket of a quota, as the API lists it. Amounts in dollars are `Decimal`, and not float."""
        async with self.session.get(f"{self.url}/api/quotas?bucket={name}") as reply:
            (found,) = (await reply.json())["quotas"]
        return {key: Decimal(str(value)) if key.endswith("_usd") else value for key, value in found.items()}

    async def refill(self, bucket, amount):
        """Add an amount of dollars to a bucket."""
        body = {"bucket": bucket, "amount": f"${amount}"}
        async with self.session.post(f"{self.url}/api/quotas/refill", json=body) as reply:
            assert reply.status == 200, await reply.text()

    async def _listed(self):
        calls, cursor = [], ""
        while cursor is not None:
            async with self.session.get(f"{self.url}/api/calls?limit=200{cursor and f'&cursor={cursor}'}") as reply:
                page = await reply.json()
            calls += page["calls"]
            cursor = page["next"]
        return calls

    async def end(self):
        """Stop the process, and return its exit status. If it does not end, fail with the stacks that it prints."""
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), START_SECONDS)
        except TimeoutError:
            before = len(self.lines)
            self.process.send_signal(signal.SIGQUIT)
            await asyncio.sleep(SECONDS)
            raise AssertionError("\n".join([*self.lines[-10:before], *self.lines[before:]])) from None
        await self.reading
        return self.process.returncode


class Family(Served):
    """A gateway and the processes that replace it. All of them write to the same output."""

    def __init__(self, process, session):
        super().__init__(process, session)
        self.current = process.pid

    def entries(self, event):
        return [json.loads(line) for line in self.lines if f'"event":"{event}"' in line]

    async def restart(self):
        """Start a new process that replaces the gateway, and return when it serves."""
        before = len(self.entries("gateway.started"))
        os.kill(self.current, signal.SIGUSR2)
        await eventually(lambda: len(self.entries("gateway.started")) > before, START_SECONDS)
        await self.is_replaced(before)

    async def is_replaced(self, count):
        """Wait until the gateway has been replaced `count` times."""
        await eventually(lambda: len(self.entries("gateway.replaced")) >= count, START_SECONDS)
        self.current = self.entries("gateway.replaced")[count - 1]["process"]

    async def end(self):
        """Stop the last process, and wait until all processes have ended."""
        os.kill(self.current, signal.SIGTERM)
        everyone = len(self.entries("gateway.started"))
        await eventually(lambda: len(self.entries("gateway.stopped")) == everyone, START_SECONDS)
        await asyncio.wait_for(self.reading, START_SECONDS)


@asynccontextmanager
async def family(tmp_path, *arguments, **more):
    """Yield a running gateway (`Family`) that new processes may replace. At the end, all processes are killed."""
    command = (sys.executable, "-m", "gateway", *arguments)
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env=environment(tmp_path, **more),
        start_new_session=True,
    )
    # a new connection for each request, since a kept one leads to the process that was replaced
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        gateway = Family(process, session)
        try:
            await gateway.line("gateway.started")
            gateway.url = (await gateway.line(PAGE))[1]
            yield gateway
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            await gateway.reading


@asynccontextmanager
async def running(*command, **options):
    """Run a server during an `async with` block. `command` is its command line, and `options` are arguments of
    `asyncio.create_subprocess_exec`.
    """
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, **options)
    async with _serving(process) as served:
        yield served


@asynccontextmanager
async def served(tmp_path, *arguments, **more):
    """Run the gateway of this checkout during an `async with` block."""
    process = await fork(arguments, cwd=tmp_path, env=environment(tmp_path, **more))
    async with _serving(process) as served:
        yield served


@asynccontextmanager
async def _serving(process):
    async with aiohttp.ClientSession() as session:
        served = Served(process, session)
        try:
            served.url = (await served.line(PAGE))[1]
            yield served
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await served.reading
