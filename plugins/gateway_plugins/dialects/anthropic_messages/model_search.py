"""Finds the models that a provider offers, with Anthropic's paged list `GET /v1/models`.

Source: Anthropic's API reference (Models, List models).
"""

from __future__ import annotations

from typing import Final

from gateway.contract.flag import DiscoveredModel, ModelPages, ModelSearch
from gateway_plugins.shared import lenient, model_pages

_HEADERS: Final = {"anthropic-version": "2023-06-01"}


def discover_models(_host: str) -> ModelSearch:
    """Return a search that lists the provider's models. Its requests go to the provider's base URL."""
    return ModelSearch(_pages())


def _pages() -> ModelPages:
    models: list[DiscoveredModel] = []
    last = ""
    while True:
        query = {"limit": str(model_pages.PER_PAGE), "after_id": last}
        entries, page = yield from model_pages.page("/v1/models", "data", query, _HEADERS)
        models += [DiscoveredModel(lenient.text(entry.get("id"))) for entry in entries]
        last = lenient.text(page.get("last_id"))
        if page.get("has_more") is not True or not last:
            return models
