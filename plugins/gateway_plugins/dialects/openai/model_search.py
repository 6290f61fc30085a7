"""The search for the models of a provider with OpenAI's list of models: `GET /v1/models`.

The list is not divided into pages, and does not say what a model can do. So it may have models for images or sound,
which are offered too. Source: the reference of OpenAI's API (Models, List models).
"""

from __future__ import annotations

from gateway.contract.flag import DiscoveredModel, ModelPages, ModelSearch
from gateway_plugins.shared import lenient, model_pages


def discover_models(_host: str) -> ModelSearch:
    """Return the search at the provider's own address."""
    return ModelSearch(_pages())


def _pages() -> ModelPages:
    entries, _ = yield from model_pages.page("/v1/models", "data", {})
    return [DiscoveredModel(lenient.text(entry.get("id"))) for entry in entries]
