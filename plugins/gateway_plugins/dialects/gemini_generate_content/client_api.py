"""Paths and headers that clients of the Gemini API use, and the SDK's setting for the base URL.

Source: the Gemini API's reference.
"""

from __future__ import annotations

from typing import Final

from gateway.contract.flag import ClientApi

CLIENT_API: Final = ClientApi(
    bases=("/v1beta", "/v1", "/v1alpha", ""),
    setting="http_options.base_url or GOOGLE_GEMINI_BASE_URL",
    paths=(
        "/v1beta/models/{model}:embedContent", "/v1beta/models/{model}:batchEmbedContents",
        "/v1beta/models/{model}:predict", "/v1beta/models/{model}:predictLongRunning",
        "/v1beta/models/{model}:batchGenerateContent", "/v1beta/models/{model}:generateAnswer",
        "/v1beta/cachedContents", "/v1beta/cachedContents/{id}", "/v1beta/files", "/v1beta/files/{id}",
        "/v1beta/interactions", "/v1beta/interactions/{id}", "/v1beta/batches", "/v1beta/batches/{id}",
        "/v1beta/fileSearchStores", "/v1beta/fileSearchStores/{id}",
    ),
    headers=("x-goog-api-key", "x-goog-api-client"),
)  # fmt: skip
