"""Defaults for compatibility flags (plugins of API formats). They suit a JSON API with server-sent events.

- `Defaults` has every optional function and value of `Flag`. A plugin gets the default for each name that its module
  does not define.
- Plugins do not import this module. To use a default within a function of its own, a plugin calls the function behind
  the default, such as `json_api.parse`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.contract import json_api, model_lists, openings, provider_errors, session_ids, sse_api
from gateway.contract.billing import common_parts
from gateway.contract.capabilities import Caps
from gateway.contract.errors import Problem
from gateway.contract.flag import (
    OPAQUE,
    ClientApi,
    ClientRequest,
    Drop,
    Event,
    Head,
    HttpRequest,
    ListedModel,
    ModelList,
    ModelSearch,
    OfferedModel,
    Opening,
    Target,
    Usage,
)
from gateway.contract.framing import sse
from gateway.contract.places import Places, output_bytes
from gateway.contract.samples import Sample
from gateway.contract.session_ids import SessionIds
from gateway.contract.settings import Settings


class Defaults:
    """The default functions and values of one compatibility flag (plugin of an API format).

    Some defaults depend on the plugin: on its name, or on the values `dialects`, `content_type` and `places` of its
    module.
    """

    accepts: tuple[tuple[str, str], ...] = ()
    slow_marks: tuple[bytes, ...] = ()
    has_cache_marks = False
    content_type = sse.CONTENT_TYPE
    client_api: ClientApi | None = None
    places: Places | None = None
    model_lists: tuple[ModelList, ...] = ()
    passed_headers: tuple[str, ...] = ()
    price_list = ""
    billed_parts = staticmethod(common_parts)
    Options = Settings

    def __init__(self, name: str, module: Any) -> None:
        self._name = name
        self._dialect: str = module.dialects[0]
        self._content_type: str = getattr(module, "content_type", self.content_type)
        self._places: Places | None = getattr(module, "places", None)

    def model_list(self, models: Sequence[ListedModel], _query: Mapping[str, str]) -> bytes:
        """Return a list that the SDKs of OpenAI and Anthropic read (`model_lists.model_list`)."""
        return model_lists.model_list(models)

    def model_entry(self, model: ListedModel) -> bytes:
        """Return an entry that the SDKs of OpenAI and Anthropic read (`model_lists.model_entry`)."""
        return model_lists.model_entry(model)

    def discover_models(self, _host: str) -> ModelSearch | None:
        """Return None, which means that the API has no list of models."""
        return None

    def parse(self, request: HttpRequest) -> ClientRequest:
        """Return the parsed request, with `model` and `stream` from its body (`json_api.parse`)."""
        return json_api.parse(self._name, self._dialect, request)

    def session_ids(self, request: ClientRequest) -> SessionIds:
        """Return the ids in `session_id`, `litellm_session_id`, `metadata.session_id` and `prompt_cache_key`."""
        return session_ids.in_body(request.top)

    def opening(self, request: ClientRequest) -> Opening | None:
        """Return the system prompt and the first user message, as `openings.chat` finds them. Return None for the
        dialect `opaque`.
        """
        return None if request.dialect == OPAQUE else openings.chat(request.top)

    def base_url_fault(self, _url: str) -> str:
        """Return "": every base URL is right."""
        return ""

    def dialect_for(self, _caps: Caps) -> str:
        """Return the first of the module's `dialects`."""
        return self._dialect

    def steps(self, request: ClientRequest, _target: Target, _drop: Drop) -> ClientRequest:
        """Return the request unchanged, because nothing has to be done before `build`."""
        return request

    def mark_cache(self, _request: ClientRequest, _target: Target, _lifetime: str) -> ClientRequest | None:
        """Return None: the request stays unchanged."""
        return None

    def retry(self, _request: ClientRequest, _target: Target, _problem: Problem, _drop: Drop) -> ClientRequest | None:
        """Return None: the request is not sent again."""
        return None

    def advice(self, _problem: Problem, _target: Target, _offers: Iterable[OfferedModel]) -> str:
        """Return "", so that nothing is added to the provider's error message."""
        return ""

    def stream_type(self, _request: ClientRequest) -> str:
        """Return the plugin's `content_type`, whatever the request is."""
        return self._content_type

    def limit(self, request: ClientRequest) -> int | None:
        """Return the largest of the body's fields `max_completion_tokens`, `max_tokens` and `max_output_tokens`.

        Return None if the body has none of them.
        """
        return json_api.limit(request)

    def problem(self, head: Head, body: bytes) -> Problem | None:
        """Return the problem that the status or the body reports (`provider_errors.problem_of`)."""
        return provider_errors.problem_of(head, body)

    def decoder(self, _request: ClientRequest, _target: Target, _head: Head) -> sse_api.SseDecoder:
        """Return a decoder of server-sent events up to `[DONE]` (`SseDecoder`).

        The kind of an event is its SSE name, or `message` if the event has no name.
        """
        return sse_api.SseDecoder(lambda name, _payload: name or "message", lambda event: event.payload == b"[DONE]")

    def encoder(self, _request: ClientRequest) -> sse_api.SseEncoder:
        """Return an encoder of server-sent events without names (`SseEncoder`)."""
        return sse_api.SseEncoder()

    def output_bytes(self, event: Event) -> int:
        """Return the number of bytes of the texts that the plugin's `places` finds in the event.

        Return 0 if the plugin has no function `places`.
        """
        return 0 if self._places is None else output_bytes(self._places, event)

    def samples(self) -> tuple[Sample, ...]:
        """Return no samples."""
        return ()

    def error(self, problem: Problem) -> tuple[int, dict[str, str], bytes]:
        """Return an error in the form `{"error": {...}}` (`json_api.error`)."""
        return json_api.error(problem)

    def reply_headers(self, _request_id: str, _usage: Usage | None) -> dict[str, str]:
        """Return no headers."""
        return {}
