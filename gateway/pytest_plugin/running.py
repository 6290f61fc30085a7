"""A gateway in the process of a test, with an HTTP client for it."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

import aiohttp

from gateway.config.load import loads
from gateway.contract.registry import discover
from gateway.process.serve import Running, listening
from gateway.telemetry.log import configure

EVERYBODY: Final = [
    {"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin"}, {"models": "**"}, {"read_metrics": True}]}}
]
"""The grants for a configuration without grants: everybody may use every model and see every call."""
LOOPBACK: Final = {"listeners": [{"listen": "127.0.0.1:0"}]}
RECORD_SECONDS: Final = 10.0
"""Maximum number of seconds for which `RunningGateway.calls` waits for records."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that was read completely. It has the coroutine methods of an aiohttp response.

    >>> async with irisgate_gateway({"providers": {}}) as gateway:
    ...     reply = await gateway.post("/v1/chat/completions", {"model": "m", "messages": []})
    >>> reply.status, (await reply.json())["error"]["code"]
    (404, 'model_not_found')
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        return self.body

    async def text(self) -> str:
        return self.body.decode()

    async def json(self) -> Any:
        return json.loads(self.body)


class RunningGateway:
    """A running gateway, and an HTTP client for it.

    `url` is the gateway's address. `session` is the client's aiohttp session, for HTTP methods other than
    GET and POST.

    >>> async with irisgate_upstream("openai") as upstream:
    ...     provider = {"baseurl": upstream.url, "apikey": "k", "models": ["m"], "compatibility": {"openai_chat": True}}
    ...     async with irisgate_gateway({"providers": {"mine": provider}}) as gateway:
    ...         request = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    ...         reply = await gateway.post("/v1/chat/completions", request)
    ...         (record,) = await gateway.calls()
    >>> reply.status, record["model"], upstream.requests[0].json["messages"]
    (200, 'm', [{'role': 'user', 'content': 'hi'}])
    """

    def __init__(self, running: Running, session: aiohttp.ClientSession) -> None:
        self.running = running
        self.url = running.urls[0]
        self.session = session

    async def get(self, path: str, **options: Any) -> Reply:
        """Send a request without a body. `options` are aiohttp's, such as `headers`."""
        async with self.session.get(self.url + path, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def post(self, path: str, body: Any, **options: Any) -> Reply:
        """Send a POST request with `body`. Bytes are sent unchanged, and any other value is encoded as JSON."""
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        async with self.session.post(self.url + path, data=data, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def calls(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are at least `count` records of calls, and return all records, the newest first.

        Raises `TimeoutError` if there are too few records after ten seconds.
        """
        deadline = monotonic() + RECORD_SECONDS
        while monotonic() < deadline:
            await self.running.gateway.follower.flush()
            reply = await self.get("/api/calls")
            records: list[dict[str, Any]] = json.loads(reply.body)["calls"]
            if len(records) >= count:
                return records
            await asyncio.sleep(0.01)
        raise TimeoutError(f"there are not {count} calls after {RECORD_SECONDS:g} s")


@asynccontextmanager
async def running_gateway(
    config: Mapping[str, Any], plugins: Path | None = None, **options: Any
) -> AsyncIterator[RunningGateway]:
    """Run a gateway on a free port of the loopback address. Its store is in a temporary folder.

    `config` needs no `grants` and no listeners. `plugins` is a folder of plugins, in addition to the plugins of
    installed packages. `options` are the keyword arguments of `gateway.process.serve.listening`.
    """
    registry = discover(plugins)
    whole = {"grants": EVERYBODY, **config, "server": {**LOOPBACK, **config.get("server", {})}}
    loaded = loads(json.dumps(whole), plugins=registry.known)
    log = configure(io.BytesIO(), json=True)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        async with (
            listening(loaded.config, registry, state=state, log=log, **options) as running,
            aiohttp.ClientSession(auto_decompress=False) as session,
        ):
            yield RunningGateway(running, session)
