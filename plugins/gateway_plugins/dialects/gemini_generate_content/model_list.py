"""The list of models in Google's format. Source: the Gemini API's reference (Models)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.contract.flag import ListedModel, ModelList

_METHODS: Final = ("generateContent", "countTokens")
LISTS: Final = (
    ModelList("/v1beta/models"),
    ModelList("/v1alpha/models"),
    # OpenAI's list has this path too
    ModelList("/v1/models", headers=("x-goog-api-key", "x-goog-api-client")),
)


def model_list(models: Sequence[ListedModel], _query: Mapping[str, str]) -> bytes:
    """Return the body of a reply that lists all models on one page."""
    return orjson.dumps({"models": [_entry(model) for model in models]})


def model_entry(model: ListedModel) -> bytes:
    return orjson.dumps(_entry(model))


def _entry(model: ListedModel) -> dict[str, Any]:
    return {
        "name": f"models/{model.name}",
        "baseModelId": model.name,
        "version": "001",
        "displayName": model.name,
        "description": model.description,
        "supportedGenerationMethods": list(_METHODS),
        **({"outputTokenLimit": model.max_output} if model.max_output else {}),
    }
