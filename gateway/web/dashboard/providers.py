"""The page of providers with their models."""

from __future__ import annotations

from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.web.admin.sessions import scope
from gateway.web.dashboard import views
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.samples import granted, sample_call


async def providers(request: web.Request) -> web.Response:
    seen = scope(request)
    gateway = request.app[GATEWAY]
    cards = views.provider_cards(
        gateway.runtime.config.providers.values(), granted(request), gateway.runtime.prices, gateway.keys,
        everything=seen.admin,
    )  # fmt: skip
    config_error = gateway.config_error if seen.admin else ""
    return await page(request, "providers.html", cards=cards, curl=sample_call(request), config_error=config_error)
