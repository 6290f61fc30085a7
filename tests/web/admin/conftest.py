"""Fixtures: a gateway that serves a configuration from a file, as the command does, and a client for its HTTP API."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from gateway.config.history import HISTORY, History
from gateway.config.load import load
from gateway.contract.registry import discover
from gateway.process.reload import Reloader
from gateway.process.serve import listening
from gateway.telemetry.log import configure
from tests.helpers.gateway import CAP, HAIKU, Gate, Lines

CANARY = "sk-canary-0123456789"
TEXT = f"""\
// the team's gateway
{{
  "providers": {{
    "bedrock": {{
      "baseurl": "http://127.0.0.1:9", // nobody listens there
      "apikey": "{CANARY}", /* from the vault */
      // "apikey": "sk-canary-of-last-year",
      "models": ["{HAIKU}",],
      "cost_basis": "bedrock-us",
      "compatibility": {{ "bedrock_converse": true }},
      "add_headers": ["X-Team-Key: canary-header-1"],
    }},
  }},
  // {CANARY} is in use since May
  "grants": [
    {{ "src": ["*"], "app": {{ "{CAP}": [{{ "role": "admin" }}, {{ "models": "**" }}] }} }},
  ],
  "server": {{ "listeners": [{{ "listen": "127.0.0.1:0" }}], "limits": {{ "body_bytes": 65536 }} }},
}}
"""
SECRETS = (CANARY, "sk-canary-of-last-year", "canary-header-1")


class Served(Gate):
    """A gateway with its configuration file.

    It keeps every reply, so that a test can search all replies for secrets.
    """

    def __init__(self, running, session, lines, path):
        super().__init__(running, session, lines)
        self.path = path
        self.heard = []

    async def ask(self, method, where, **options):
        async with self.session.request(method, self.url + where, **options) as response:
            body = await response.read()
        self.heard.append(body + repr(response.headers).encode())
        return response, (json.loads(body) if body else None)

    async def config(self, **headers):
        return await self.ask("GET", "/aperture/config", headers=headers)

    async def put(self, text, etag=None, **headers):
        """Save a configuration with the entity tag `etag`. If `etag` is None, the present file's tag is sent. If `etag`
        is "", no tag is sent.
        """
        if etag is None:
            etag = (await self.config())[0].headers["etag"]
        headers = {**({"If-Match": etag} if etag else {}), **headers}
        return await self.ask("PUT", "/aperture/config", json={"config": text}, headers=headers)

    async def validate(self, text):
        return await self.ask("POST", "/aperture/config:validate", json={"config": text})

    async def until(self, event, count=1):
        return await self.lines.until(event, count)

    @property
    def reloader(self):
        return self.running.gateway.reloader


@asynccontextmanager
async def from_file(path, *, follow=False):
    registry, lines = discover(), Lines()
    loaded = load(path, plugins=registry.known)
    async with (
        listening(loaded.config, registry, state=path.parent / "state", log=configure(lines)) as running,
        aiohttp.ClientSession() as session,
    ):
        history = History(path.parent / "state" / HISTORY)
        reloader = running.gateway.reloader = Reloader(path, running.gateway, None, loaded, b"a key for tests", history)
        await reloader.begin_history()
        following = asyncio.create_task(reloader.follow()) if follow else None
        yield Served(running, session, lines, path)
        if following is not None:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


@pytest.fixture
def config_file(tmp_path):
    (tmp_path / "state").mkdir()
    path = tmp_path / "config.hujson"
    path.write_text(TEXT)
    return path


@pytest.fixture
async def served(config_file):
    """Serve a configuration file that is not watched. The test itself causes reloads."""
    async with from_file(config_file) as running:
        yield running
        heard = b"".join(running.heard)
        await running.log_is_written()
        assert not [secret for secret in SECRETS if secret.encode() in heard + running.lines.data]


@pytest.fixture
async def followed(config_file):
    async with from_file(config_file, follow=True) as running:
        yield running
