"""A running gateway for tests that talk to it over HTTP, as clients do."""

import json
import secrets
import tempfile
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import aiohttp

from gateway.call.sessions import KEY_BYTES
from gateway.config.load import loads
from gateway.contract.registry import discover
from gateway.process.serve import listening
from gateway.pytest_plugin.running import EVERYBODY, LOOPBACK, RunningGateway
from gateway.store.file import prepare
from gateway.store.state_files import KEY as SESSION_KEY
from gateway.telemetry.log import configure
from gateway.upstream.process_pool import ProcessPool
from gateway.web.usage.command import STORE
from tests.helpers.waiting import eventually

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-lite-v1:0"
KEY = "bedrock-key-for-tests"
CAP = "tailscale.com/cap/aperture"
EVERYTHING = EVERYBODY


SLOW_HOOK = 60.0
"""Seconds above which a hook of the built-in plugins is reported as slow in tests."""


class SharedPool(ProcessPool):
    """A pool of worker processes that several gateways use one after the other.

    Starting a worker process takes a second.
    """

    def close(self):
        """Do nothing: the worker processes are kept until this process ends."""


POOL = SharedPool()


class Lines:
    """An output for the log that stores the lines."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += bytes(data)
        return len(data)

    def isatty(self):
        return False

    def entries(self, event):
        return [entry for line in self.data.splitlines() if (entry := json.loads(line))["event"] == event]

    def count(self, event):
        """Return the number of log lines of an event. The lines are not parsed, because there may be thousands."""
        return self.data.count(f'"event":"{event}"'.encode())

    async def until(self, event, count=1):
        """Wait until there are at least `count` log lines of an event, and return them.

        The log's thread writes the lines with a delay.
        """
        await eventually(lambda: self.count(event) >= count)
        return self.entries(event)


class Gate(RunningGateway):
    """A running gateway, an HTTP client for it, and the lines of its log."""

    def __init__(self, running, session, lines):
        super().__init__(running, session)
        self.lines = lines

    async def sessions(self):
        """Wait until the store has the records of all calls. Return the sessions, as /api/sessions lists them."""
        await self.running.gateway.follower.flush()
        return (await (await self.get("/api/sessions")).json())["sessions"]

    async def readiness(self):
        """Return the status and the body of a reply of /readyz."""
        reply = await self.get("/readyz")
        return reply.status, await reply.json()

    async def becomes(self, status):
        """Wait until /readyz has this status, and return the body of its reply."""

        async def look():
            seen, body = await self.readiness()
            return body if seen == status else None

        return await eventually(look)

    async def log_is_written(self):
        """Wait until all log lines so far are written. The log's thread writes the lines in order."""
        mark = f"test.mark_{len(self.lines.data)}"
        self.running.gateway.log.info(mark)
        await self.lines.until(mark)

    async def calls(self, count=1):
        """Wait until the log has the records of at least `count` calls, and return all records."""
        return await self.lines.until("call.finished", count)


def bedrock(url, *, flags=("bedrock_model_invoke", "bedrock_converse"), models=(HAIKU, SONNET, NOVA), **more):
    return {
        "baseurl": url,
        "apikey": KEY,
        "authorization": "bearer",
        "models": list(models),
        "cost_basis": "bedrock-us",
        "compatibility": dict.fromkeys(flags, True),
        **more,
    }


@cache
def built_in():
    """Return the registry of the built-in plugins.

    The registry is made only once, because that takes 20 ms and the plugins do not change. Hooks are reported as slow
    only after many seconds, so that a busy test machine causes no reports.
    """
    registry = discover()
    for hook in registry.hooks():
        hook.slow_seconds = SLOW_HOOK
    return registry


@cache
def empty_store():
    """Return the file content of an empty store. Copying it is ten times faster than creating a new store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / STORE
        prepare(path)
        return path.read_bytes()


@asynccontextmanager
async def gate(state, providers, *, grants=EVERYTHING, plugins=None, server=None, more=None, **options):
    registry = discover(plugins) if plugins else built_in()
    text = json.dumps({"providers": providers, "grants": grants, "server": LOOPBACK | (server or {}), **(more or {})})
    loaded = loads(text, plugins=registry.known)
    lines = Lines()
    # the gateway itself would wait until a new key is on the disk
    for name, content in ((STORE, empty_store()), (SESSION_KEY, secrets.token_bytes(KEY_BYTES))):
        if state.is_dir() and not (file := state / name).exists():
            file.touch(0o600)
            file.write_bytes(content)
    options = {"pool": POOL, **options}
    async with (
        listening(loaded.config, registry, state=state, log=configure(lines), **options) as running,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield Gate(running, session, lines)
