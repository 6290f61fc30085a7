"""The page of models and providers: each model's prices, state, last success and last error, and its calls and cost in
a range of time.

If the store cannot be read, the page shows only the configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Final

from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.contract.record import dollars
from gateway.store.base import StoreFailed, rfc3339
from gateway.store.reports.values import ModelHealth, Models
from gateway.web.dashboard import views
from gateway.web.dashboard.csv_pages import FORMAT, csv_page, wants_csv
from gateway.web.dashboard.filter_bar import FilterBar, filter_bar
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.samples import granted, sample_call
from gateway.web.dashboard.visit import Visit, visit
from gateway.web.provider_health import known_health
from gateway.web.reports.csv_files import Cell

COLUMNS: Final = (
    "provider", "model", "input_usd_per_million", "output_usd_per_million", "calls", "errors", "cost_usd",
    "cost_unknown_calls", "first_event_p50_ms", "first_event_p95_ms", "state", "last_success_at", "last_error_at",
    "last_error", "last_error_message",
)  # fmt: skip
"""Columns of the CSV file of models."""


async def providers(request: web.Request) -> web.StreamResponse:
    seen = visit(request, FORMAT)
    gateway = request.app[GATEWAY]
    await gateway.refresh()
    models, health, bar = await _reports(seen)
    admin = seen.reports.admin
    mine = await granted(request)

    def cards_of() -> list[views.ProviderCard]:
        config, prices = gateway.runtime.config, gateway.runtime.prices
        made = views.provider_cards(
            config.providers.values(), mine, prices, gateway.keys, everything=admin, models=models,
            health=known_health(gateway.health.standings(), health, messages=admin),
        )  # fmt: skip
        return views.with_lists(made, config.providers, gateway.models) if admin else made

    # a thread makes them, because a price is found for each of perhaps thousands of models
    cards = await asyncio.to_thread(cards_of)
    if wants_csv(seen):
        lines = ((card, line) for card in cards for line in card.models)
        return await csv_page(seen, "models", COLUMNS, (_cells(card, line) for card, line in lines))
    return await page(
        request, "providers.html",
        cards=cards, bar=bar, curl=await sample_call(request), config_error=gateway.config_error if admin else "",
    )  # fmt: skip


def _cells(card: views.ProviderCard, line: views.ModelLine) -> tuple[Cell, ...]:
    """Return the cells of a model's row in the CSV file, in the order of `COLUMNS`."""
    row, health = line.calls, line.health
    figures = row.figures if row else None
    return (
        card.id, line.name, line.input, line.output,
        figures.calls if figures else 0, figures.errors if figures else 0,
        dollars(figures.cost) if figures else 0.0, figures.cost_unknown_calls if figures else 0,
        row.first_event.p50 if row else None, row.first_event.p95 if row else None, line.state,
        _moment(health.last_success_at if health else None), _moment(health.last_error_at if health else None),
        health.last_error if health else "", health.last_error_message if health else "",
    )  # fmt: skip


def _moment(at: float | None) -> str:
    return "" if at is None else rfc3339(at)


def _bar(seen: Visit) -> Awaitable[FilterBar]:
    return filter_bar(seen, csv=seen.href(format="csv"))


async def _reports(seen: Visit) -> tuple[Models, Iterable[ModelHealth], FilterBar | None]:
    """Return the sums over the calls of each model, the health of the models, and the filter bar.

    If the store cannot be read, there are no sums and no health, and the filter bar is None.
    """
    try:
        return await asyncio.gather(seen.reports.models(seen.filter), seen.reports.health(), _bar(seen))
    except StoreFailed as error:
        seen.request.app[GATEWAY].log.error("store.read_failed", reason=str(error))
        return views.NO_MODELS, (), None
