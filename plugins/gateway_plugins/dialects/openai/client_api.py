"""Paths that clients of OpenAI's API use, for Chat and Responses, and the SDK's setting for the base URL.

Source: OpenAI's API reference.
"""

from __future__ import annotations

from typing import Final

from gateway.contract.flag import ClientApi

CLIENT_API: Final = ClientApi(
    bases=("/v1",),
    setting="base_url or OPENAI_BASE_URL",
    paths=(
        "/v1/embeddings", "/v1/completions", "/v1/moderations", "/v1/images/{operation}", "/v1/audio/{operation}",
        "/v1/files", "/v1/files/{id}", "/v1/batches", "/v1/batches/{id}", "/v1/models/{id}", "/v1/responses/{id}",
        "/v1/chat/completions/{id}", "/v1/conversations", "/v1/conversations/{id}", "/v1/vector_stores",
        "/v1/vector_stores/{id}", "/v1/assistants", "/v1/threads", "/v1/threads/{id}", "/v1/fine_tuning/{id}",
        "/v1/videos", "/v1/realtime", "/v1/realtime/{id}",
    ),
)  # fmt: skip
