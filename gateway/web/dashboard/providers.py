"""The page of models and providers: prices, what each model did in a range of time, its state, and its last success
and error.

If the store cannot be read, the page shows what is configured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.store.base import StoreFailed
from gateway.store.reports.values import ModelHealth, Models
from gateway.web.dashboard import views
from gateway.web.dashboard.filter_bar import FilterBar, filter_bar
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.samples import granted, sample_call
from gateway.web.dashboard.visit import Visit, visit
from gateway.web.provider_health import known_health


async def providers(request: web.Request) -> web.Response:
    seen = visit(request)
    gateway = request.app[GATEWAY]
    models, health, bar = await _reports(seen)
    admin = seen.reports.admin
    cards = views.provider_cards(
        gateway.runtime.config.providers.values(), granted(request), gateway.runtime.prices, gateway.keys,
        everything=admin, models=models,
        health=known_health(gateway.health.standings(), health, messages=admin),
    )  # fmt: skip
    return await page(
        request, "providers.html",
        cards=cards, bar=bar, curl=sample_call(request), config_error=gateway.config_error if admin else "",
    )  # fmt: skip


async def _reports(seen: Visit) -> tuple[Models, Iterable[ModelHealth], FilterBar | None]:
    """Return what the models did, and the filter. A failure of the store is logged."""
    try:
        return await asyncio.gather(seen.reports.models(seen.filter), seen.reports.health(), filter_bar(seen))
    except StoreFailed as error:
        seen.request.app[GATEWAY].log.error("store.read_failed", reason=str(error))
        return views.NO_MODELS, (), None
