"""Finds the models that a provider offers, with OpenAI's list `GET /v1/models`.

The list has no pages, and does not say what a model can do. So models for images or sound are offered too. Source:
OpenAI's API reference (Models, List models).
"""

from __future__ import annotations

from gateway.contract.flag import DiscoveredModel, ModelPages, ModelSearch
from gateway_plugins.shared import lenient, model_pages


def discover_models(_host: str) -> ModelSearch:
    """Return a search that lists the provider's models. Its requests go to the provider's base URL."""
    return ModelSearch(_pages())


def _pages() -> ModelPages:
    entries, _ = yield from model_pages.page("/v1/models", "data", {})
    return [DiscoveredModel(lenient.text(entry.get("id"))) for entry in entries]
