"""The plugin of Google's Gemini API: POST /v1beta/models/{model}:generateContent, :streamGenerateContent, :countTokens.

- The path names the model. The same routes exist below /v1beta, /v1 and /v1alpha: the google-genai SDK uses /v1 since
  version 3, and older versions use /v1beta.
- Every event of a stream is a whole `GenerateContentResponse`. A stream has no terminal event. The stream is complete
  if every candidate has a finish reason (`dialects/gemini_generate_content/facts.py`).

Source: the Gemini API's reference (Generating content, Counting tokens), and the google-genai SDK.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl, quote

import orjson

from gateway.contract import json_api, openings, sse_api
from gateway.contract.array_api import ArrayEncoder
from gateway.contract.errors import BadFrame, Problem, Refused, Truncated, invalid
from gateway.contract.flag import (
    COUNT_TOKENS,
    ClientRequest,
    Decoder,
    Drop,
    Event,
    Head,
    HttpRequest,
    Members,
    Meter,
    Opening,
    Route,
    Target,
    UpstreamRequest,
)
from gateway.contract.framing import json_array, sse
from gateway_plugins.dialects.gemini_generate_content import billing as gemini_billing
from gateway_plugins.dialects.gemini_generate_content import errors as gemini_errors
from gateway_plugins.dialects.gemini_generate_content import facts as gemini_facts
from gateway_plugins.dialects.gemini_generate_content import model_list as gemini_models
from gateway_plugins.dialects.gemini_generate_content import model_search as gemini_search
from gateway_plugins.dialects.gemini_generate_content import places as gemini_places
from gateway_plugins.dialects.gemini_generate_content.client_api import CLIENT_API
from gateway_plugins.shared import remote_files
from gateway_plugins.shared.lenient import count, whole_number

_OWN: Final = "gemini_generate_content"
_STREAM: Final = "streamGenerateContent"
_OPERATIONS: Final = (("generateContent", "generate"), (_STREAM, "generate"), ("countTokens", COUNT_TOKENS))
"""Pairs: the name of Google's method in a request's path, and the gateway's name for the operation."""

api = 1
dialects = (_OWN,)
routes = tuple(
    Route("POST", f"/{version}/models/{{model:.+}}:{method}", operation)
    for version in ("v1beta", "v1", "v1alpha")
    for method, operation in _OPERATIONS
)
client_api = CLIENT_API
price_list = "google"
steps = remote_files.steps
model_lists = gemini_models.LISTS
model_list = gemini_models.model_list
discover_models = gemini_search.discover_models
model_entry = gemini_models.model_entry
problem = gemini_errors.problem_for
error = gemini_errors.error
places = gemini_places.places
billed_parts = gemini_billing.billed_parts
output_bytes = gemini_facts.output_bytes

_SSE: Final = "sse"
_FORMS: Final = ("", "json", _SSE)
"""Forms of a reply that a client may request. "" is the default form.

A request for Google's third form, protocol buffers, is refused, because the gateway cannot read token counts in it.
"""
_QUERY: Final = ("alt", "$alt")
"""Query parameters that name the form of the reply. Older SDKs send `$alt=json;enum-encoding=int`."""
_COUNTED: Final = "generateContentRequest"
"""Field of a countTokens request whose value is a whole generateContent request. The model's name inside this value
must be replaced too."""
_TIER_HEADER: Final = "x-gemini-service-tier"
"""Header of a reply with the service tier that served the request (Gemini API: Flex and priority inference)."""


def parse(request: HttpRequest) -> ClientRequest:
    if (form := _form(request.query)) not in _FORMS:
        raise invalid(f'alt: "{form[:100]}" is not served; write alt=sse, or leave alt out for JSON', "alt")
    model = json_api.model_name(request.params["model"]).removeprefix("models/")
    stream = request.route.path.endswith(_STREAM)
    return json_api.client_request(_OWN, _OWN, request, Members(request.body), model=model, stream=stream)


def _form(query: str) -> str:
    """Return the form of the reply that a URL's query asks for, such as `sse` or `json`, or "" if it asks for none.

    Google allows options after a semicolon (`json;enum-encoding=int`). The options are not returned.
    """
    values = [value for name, value in parse_qsl(query) if name in _QUERY]
    return values[-1].partition(";")[0] if values else ""


def opening(request: ClientRequest) -> Opening | None:
    top = request.top
    system = openings.text_of(top, "systemInstruction") or openings.text_of(top, "system_instruction")
    return openings.of_turns(top, "contents", system)


def build(request: ClientRequest, target: Target, _drop: Drop) -> UpstreamRequest:
    method = "countTokens" if request.operation == COUNT_TOKENS else _STREAM if request.stream else "generateContent"
    query = "alt=sse" if request.stream and not _wants_array(request) else ""
    # the path names the model; another name in the body must not reach the provider
    changes: dict[str, bytes | None] = {"model": None} if "model" in request.top else {}
    if _COUNTED in request.top and request.operation == COUNT_TOKENS:
        inner = Members(request.top[_COUNTED])
        changes[_COUNTED] = inner.spliced({"model": orjson.dumps(f"models/{target.model}")})
    body = request.top.spliced(changes) if changes else request.top.body
    path = f"/v1beta/models/{quote(target.model, safe='')}:{method}"
    return UpstreamRequest("POST", path, body, query, {"content-type": "application/json"})


def limit(request: ClientRequest) -> int | None:
    """Return the output limit for the whole reply: the limit of one candidate times the number of candidates.

    If the client requests several candidates without a limit, `json_api.UNLIMITED` tokens are assumed for each
    candidate.
    """
    config = _config(request.top)
    if config is None:
        return None
    one = _number(config, "maxOutputTokens", "max_output_tokens")
    answers = _number(config, "candidateCount", "candidate_count") or 1
    if answers <= 1:
        return one
    return answers * (one if one is not None and one > 0 else json_api.UNLIMITED)


def _config(top: Members) -> Members | None:
    """Return the fields of `generationConfig`, or None if it is missing or is not an object."""
    value = top.get("generationConfig") or top.get("generation_config")
    if value is None:
        return None
    try:
        return Members(value)
    except Refused:  # the provider reports the fault
        return None


def _number(config: Members, *names: str) -> int | None:
    for name in names:
        if (number := json_api.integer(config.small(name))) is not None:
            return number
    return None


def stream_type(request: ClientRequest) -> str:
    return json_array.CONTENT_TYPE if _wants_array(request) else sse.CONTENT_TYPE


def _wants_array(request: ClientRequest) -> bool:
    """Return whether a client wants its stream as a JSON array, which is Google's default."""
    return request.stream and request.flag == _OWN and _form(request.query) != _SSE


def decoder(request: ClientRequest, _target: Target, _head: Head) -> Decoder:
    return GeminiDecoder(request.operation, json_array.Decoder() if _wants_array(request) else None)


class GeminiDecoder(sse_api.SseDecoder):
    """Decodes chunks, and decides when a stream is complete.

    - A stream is complete if every candidate that has begun has a finish reason.
    - Exception: some servers write a finish reason into chunks that are not the last (BerriAI/litellm#2195,
      router-for-me/CLIProxyAPI#5651). So a candidate continues if a later chunk of the candidate has no finish reason.
      If even every chunk has a finish reason, the stream is complete only when its body ends.
    - A stream in the form of a JSON array is complete at its closing bracket.
    - A chunk with a block reason is the only chunk of its stream.
    """

    def __init__(self, operation: str = "", array: json_array.Decoder | None = None) -> None:
        super().__init__(_kind, self._note, _failure, framing=array)
        self._operation = operation
        self._is_array = array is not None
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._has_unfinished = self._is_blocked = False

    def close(self) -> Iterator[Event]:
        try:
            yield from super().close()
        except Truncated:
            array = self.framing if isinstance(self.framing, json_array.Decoder) else None
            if not (array.closed if array else self._is_finished):
                raise
        self.done = True

    def whole(self, body: bytes) -> bytes:
        data = json_api.json_object(body)
        if self._operation == COUNT_TOKENS:
            number = count(data.get("totalTokens"))
            if number is None and data:
                raise BadFrame("the provider's reply has no totalTokens")
            return orjson.dumps({"input_tokens": number or 0})
        if not gemini_facts.is_reply(data):
            raise BadFrame("the provider's reply has no candidates")
        return body

    @property
    def _is_finished(self) -> bool:
        return self._is_blocked or (bool(self._finished) and self._open <= self._finished)

    def _note(self, event: Event) -> bool:
        """Record for each candidate in a chunk whether it has finished.

        The result tells the decoder whether the chunk ends the stream. It is always False, because no chunk is known to
        be the last.
        """
        data = event.data
        self._is_blocked = self._is_blocked or bool(gemini_facts.block_reason(data))
        for candidate in gemini_facts.candidates(data):
            number = whole_number(candidate.get("index"))
            self._open.add(number)
            if gemini_facts.finish_reason(candidate):
                self._finished.add(number)
            else:
                self._finished.discard(number)
                self._has_unfinished = True
        self.done = self._is_finished and self._has_unfinished and not self._is_array
        return False


def _kind(_name: str, _payload: bytes) -> str:
    return gemini_facts.CHUNK


def _failure(event: Event) -> Problem | None:
    payload = event.payload
    if b'"error"' not in payload or b'"candidates"' in payload:
        return None
    data = event.data
    return gemini_errors.problem_in_event(data) if isinstance(data, dict) and data.get("error") else None


def meter(request: ClientRequest, _target: Target, head: Head) -> Meter:
    return gemini_facts.Meter(request, head.headers.get(_TIER_HEADER, ""))


class Encoder:
    """Encodes chunks as server-sent events or as a JSON array.

    In the reply to countTokens, the count is written as `totalTokens`.
    """

    def __init__(self, request: ClientRequest) -> None:
        self._operation = request.operation
        self._form = ArrayEncoder() if _wants_array(request) else sse_api.SseEncoder()

    def feed(self, event: Event) -> bytes:
        return self._form.feed(event)

    def whole(self, body: bytes) -> bytes:
        if self._operation != COUNT_TOKENS:
            return body
        return orjson.dumps({"totalTokens": json_api.json_object(body).get("input_tokens")})

    def ping(self) -> bytes:
        return self._form.ping()

    def fail(self, problem: Problem) -> bytes:
        failed = Event(gemini_facts.CHUNK, error(problem)[2])
        return self._form.feed(failed) + self._form.close()

    def close(self) -> bytes:
        return self._form.close()


def encoder(request: ClientRequest) -> Encoder:
    return Encoder(request)
