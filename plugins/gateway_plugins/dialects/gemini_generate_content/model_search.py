"""Finds the models that a provider offers, with Gemini's paged list `GET /v1beta/models`.

A model is offered if it supports generateContent. The prefix `models/` is removed from its name. Source: Gemini API
reference (models.list).
"""

from __future__ import annotations

from typing import Final

from gateway.contract.flag import DiscoveredModel, ModelPages, ModelSearch
from gateway_plugins.shared import lenient, model_pages

_METHOD: Final = "generateContent"
_PREFIX: Final = "models/"


def discover_models(_host: str) -> ModelSearch:
    """Return a search that lists the provider's models. Its requests go to the provider's base URL."""
    return ModelSearch(_pages())


def _pages() -> ModelPages:
    models: list[DiscoveredModel] = []
    token = ""
    while True:
        query = {"pageSize": str(model_pages.PER_PAGE), "pageToken": token}
        entries, page = yield from model_pages.page("/v1beta/models", "models", query)
        usable = [entry for entry in entries if _METHOD in lenient.sequence(entry.get("supportedGenerationMethods"))]
        models += [DiscoveredModel(lenient.text(entry.get("name")).removeprefix(_PREFIX)) for entry in usable]
        token = lenient.text(page.get("nextPageToken"))
        if not token:
            return models
