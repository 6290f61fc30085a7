"""A gateway for tests of pages and lists, with a real store, catalog, grants and prices. A request header says who the
caller is.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
from aiohttp import web

from gateway.access.grants import Grants
from gateway.access.identity.caller import Identity
from gateway.call.context import GATEWAY, IDENTITY, REQUEST_ID, Gateway
from gateway.call.keeper import Keeper
from gateway.config.document.secrets import Secret
from gateway.config.model import Capability, Config, Grant, Provider
from gateway.contract.record import NANODOLLARS
from gateway.money.prices.table import Prices
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.definitions import Quota
from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.captured import CapturedBodies, CapturedBody
from gateway.store.sqlite import SqliteStore
from gateway.telemetry.recent_calls import RecentCalls
from gateway.upstream.catalog import Catalog
from gateway.upstream.discovered_models import DiscoveredModels
from gateway.upstream.health.circuits import Health
from gateway.upstream.refused_keys import RefusedKeys
from gateway.web.admin import report_routes, sessions, usage
from gateway.web.dashboard import pages
from tests.helpers.own_plugins import discover_own
from tests.helpers.records import HAIKU, logger

ADMIN, USER, POOR, NOBODY = "root@example.com", "ada@example.com", "poor@example.com", "nobody@example.com"
KEY = "ABSK-very-secret"

CONFIG = Config(
    providers={
        provider.id: provider
        for provider in (
            Provider(
                id="bedrock",
                baseurl="https://bedrock-runtime.us-east-1.amazonaws.com",
                models=(HAIKU, "us.anthropic.claude-opus-4-6-v1"),
                apikey=Secret(KEY),
                cost_basis="bedrock-us",
                flags=("bedrock_model_invoke", "bedrock_converse"),
                name="Amazon Bedrock",
                description="Claude in <Virginia> & elsewhere",
            ),
            Provider(id="old", baseurl="http://127.0.0.1:9/v1", models=("x'y",), disabled=True),
            Provider(id="lab", baseurl="http://lab.internal:8000", models=("tiny",), flags=("openai_chat",)),
        )
    },
    grants=(
        Grant((ADMIN,), (Capability("admin", ("bedrock/**",)),)),
        Grant((USER,), (Capability("user", (f"bedrock/{HAIKU}",), quotas=(("daily:<user>",), ("team",))),)),
        Grant((POOR,), (Capability("user", ()),)),
        Grant((ADMIN,), (Capability(filterable_headers=("*",)),)),
        Grant((USER,), (Capability(filterable_headers=("x-team", "x-former")),)),
    ),
    filterable_headers=("x-team", "x-project"),
    quotas={
        "daily:<user>": Quota("daily:<user>", 10 * NANODOLLARS, 10 * NANODOLLARS, 86_400, "$10.00/day"),
        "team": Quota("team", 200 * NANODOLLARS, on_exceed="notify"),
    },
)


REGISTRY = discover_own()


class StoredBodies:
    """The bodies of calls in memory, by the id of the call."""

    def __init__(self) -> None:
        self.calls: dict[str, CapturedBodies] = {}

    async def of(self, call: str, identity: str | None) -> CapturedBodies | None:
        stored = self.calls.get(call)
        return stored if stored and identity in {None, stored.identity} else None


def chat_bodies(call: str, identity: str, text: str) -> CapturedBodies:
    """Return the bodies of a call of Chat Completions in which everybody says `text`."""
    asked = [{"role": "system", "content": text}, {"role": "user", "content": text}, {"role": "tool", "content": text}]
    called = {
        "id": "1",
        "type": "function",
        "function": {"name": text, "arguments": orjson.dumps({"a": text}).decode()},
    }
    message = {"role": "assistant", "content": text, "tool_calls": [called]}
    request = CapturedBody({}, orjson.dumps({"model": "m", "messages": asked}), cut=False)
    reply = CapturedBody({}, orjson.dumps({"choices": [{"index": 0, "message": message}]}), cut=False)
    return CapturedBodies(call, identity, 0.0, request, reply)


class Broken:
    """A store whose file cannot be read."""

    async def sessions(self, *_: Any, **__: Any) -> Any:
        raise StoreFailed("/var/lib/irisgate.db: disk I/O error")

    session = brief_sessions = calls = names = models = health = summaries = sessions

    @property
    def reports(self) -> Broken:
        return self


@web.middleware
async def caller(request: web.Request, handler: Any) -> web.StreamResponse:
    if login := request.headers.get("x-test-login"):
        request[IDENTITY] = Identity(login)
    request[REQUEST_ID] = "request-1"
    return cast("web.StreamResponse", await handler(request))


async def nothing() -> None:
    """Do nothing. This replaces `Gateway.refresh`, because there are no workers."""


def application(store: SqliteStore | Broken, config: Config = CONFIG) -> web.Application:
    runtime = SimpleNamespace(
        config=config, grants=Grants(config.grants, config.providers), catalog=Catalog(config), prices=Prices.load()
    )
    quotas = Quotas(keep=lambda _: None)
    quotas.configured(config.quotas)
    app = web.Application(middlewares=[caller])
    app[GATEWAY] = cast(
        "Gateway",
        SimpleNamespace(
            runtime=runtime,
            store=store,
            log=logger()[0],
            config_error="",
            keys=RefusedKeys(),
            health=Health(config),
            models=DiscoveredModels(Path("unused"), config),
            reloader=None,
            registry=REGISTRY,
            bodies=StoredBodies(),
            live_calls=(),
            is_serving_calls=False,
            refresh=nothing,
            is_leaving=False,
            follower=SimpleNamespace(applied=JournalOffset(), is_replaced=False),
            quotas=quotas,
            keeper=Keeper(),
            metrics=SimpleNamespace(recent=RecentCalls()),
        ),
    )
    app.add_routes([*sessions.routes(), *report_routes.routes(), *usage.routes(), *pages.routes()])
    return app
