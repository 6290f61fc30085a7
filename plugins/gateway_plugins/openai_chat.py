"""The plugin of OpenAI's Chat Completions: POST /v1/chat/completions, unnamed server-sent events that end with [DONE].

A stream reports usage only if the request asks for usage. This plugin always asks, and removes the usage chunk for a
client that did not ask. Source: OpenAI's API reference (Chat, Errors).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import orjson

from gateway.contract import json_api, lenient_json, sse_api
from gateway.contract.errors import BadFrame, Problem, Truncated
from gateway.contract.flag import (
    ClientRequest,
    Decoder,
    Drop,
    Event,
    Facts,
    Head,
    Meter,
    ModelList,
    Route,
    Target,
    UpstreamRequest,
)
from gateway.contract.framing import sse
from gateway.contract.provider_errors import problem_in_event, problem_of, reported_problem
from gateway_plugins.dialects.bedrock import tagged_history
from gateway_plugins.dialects.openai import billing as openai_billing
from gateway_plugins.dialects.openai import errors as openai_errors
from gateway_plugins.dialects.openai import model_search
from gateway_plugins.dialects.openai.client_api import CLIENT_API
from gateway_plugins.dialects.openai_chat import places as chat_places
from gateway_plugins.dialects.openai_chat.call_numbers import CallNumbers
from gateway_plugins.dialects.openai_chat.facts import failure, finish_reason, parts_of
from gateway_plugins.dialects.openai_chat.read_options import stream_options
from gateway_plugins.dialects.openai_chat.usage import Reports
from gateway_plugins.shared import google_errors, remote_files
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.lenient import mapping, positive, sequence, text, whole_number
from gateway_plugins.shared.pieces import piece_bytes, piece_pattern

api = 1
dialects = ("openai_chat",)
routes = (
    Route("POST", "/v1/chat/completions", "generate"),
    Route("POST", "/chat/completions", "generate"),
)
model_lists = (ModelList("/v1/models"),)
discover_models = model_search.discover_models
price_list = "openai"
client_api = CLIENT_API
error = openai_errors.error
parse = partial(json_api.parse, "openai_chat", "openai_chat")
steps = remote_files.steps
places = chat_places.places
billed_parts = openai_billing.billed_parts
slow_marks = (*tagged_history.MARKS, b"thinking_blocks")

CHUNK: Final = "chat.completion.chunk"
_DONE: Final = "done"
_ERROR: Final = "error"
_END: Final = b"[DONE]"
_ENDS: Final = (_END, b"DONE")
"""Payloads of the terminal event. Case is ignored, and so are blanks and quotes around a payload."""
_CHUNK_MEMBERS: Final = frozenset({"choices", "usage"})
"""Fields of which every chunk has at least one. An object without them may be an error."""
_NOT_NULL: Final = rb"(?!\s*+:\s*+null)"
_FINISHED: Final = re.compile(rb'"finish_reason"' + _NOT_NULL)
_REPORTED: Final = re.compile(rb'"usage"' + _NOT_NULL)
_METERED: Final = re.compile(rb'"(?:tool_calls|function_call|annotations|usage|finish_reason)"' + _NOT_NULL)
"""Pattern for chunks that always have to be decoded to read the usage (`ChatMeter`).

Any other chunk is decoded only as long as the model or the service tier of the stream is not known."""
_TIERED: Final = re.compile(rb'"service_tier"' + _NOT_NULL)
_PIECE: Final = piece_pattern("content")
_QUERY: Final = ("api-version",)
"""Query parameters that are passed on to the provider. `api-version` is a parameter of OpenAI's API on Azure."""


def build(request: ClientRequest, target: Target, drop: Drop) -> UpstreamRequest:
    changes: dict[str, bytes | None] = tagged_history.of_chat(request.top, target, drop)
    if request.top.small("model") != target.model:
        changes["model"] = orjson.dumps(target.model)
    if not wants_usage(request) and request.stream:
        changes["stream_options"] = orjson.dumps({**stream_options(request.top), "include_usage": True})
    body = request.top.spliced(changes) if changes else request.top.body
    query = json_api.known_query(request.query, _QUERY) if request.flag == "openai_chat" else ""
    return UpstreamRequest("POST", "/v1/chat/completions", body, query, {"content-type": "application/json"})


def limit(request: ClientRequest) -> int | None:
    """Return the output limit for the whole reply: the limit of one answer times the number of answers (`n`).

    If the client requests several answers without a limit, `json_api.UNLIMITED` tokens are assumed for each answer.
    """
    one = json_api.limit_of(request, "max_completion_tokens", "max_tokens")
    answers = _answers(request)
    if answers <= 1:
        return one
    return answers * (one if one is not None and one > 0 else json_api.UNLIMITED)


def _answers(request: ClientRequest) -> int:
    """Return the number of answers that a request asks for (`n`), or 0 if `n` is missing or invalid."""
    return positive(request.top.small("n"))


def wants_usage(request: ClientRequest) -> bool:
    """Return whether the client requests the usage chunk. Raises `Refused` if `stream_options` is not an object."""
    return stream_options(request.top).get("include_usage") is True


def problem(head: Head, body: bytes) -> Problem | None:
    """Return the problem that a provider's reply reports, or None if the reply is no error.

    Google's OpenAI-compatible endpoint reports a refused key, and the time to wait, only in the `details` of an error.
    So these details are read too.
    """
    reported = problem_of(head, body)
    if reported is None or google_errors.MARK not in body:
        return reported
    return google_errors.with_details(reported, lenient_json.loads_or_none(body))


def decoder(request: ClientRequest, _target: Target, _head: Head) -> Decoder:
    return ChatDecoder(hide_usage=not wants_usage(request), answers=_answers(request))


class ChatDecoder(sse_api.SseDecoder):
    """Decodes chunks. A stream ends with [DONE], or with a usage chunk after the last finish reason.

    - A finish reason alone does not end the stream, because usage and [DONE] may follow seconds later.
    - Some servers send neither usage nor [DONE] (textgen#4778, ik_llama.cpp#467). If such a server closes the
      connection cleanly after the finish reason, the reply is complete. The decoder then adds an event [DONE] without a
      payload.
    - A chunk with `"usage": null` announces that a report of usage will follow. If this report is missing at the end,
      the stream was cut (OpenAI's API reference, `stream_options`).
    - If the client requested several answers, each has its own finish reason.
    """

    def __init__(self, *, hide_usage: bool, answers: int = 1) -> None:
        super().__init__(_kind, self._is_last, _failure)
        self._hide_usage = hide_usage
        self._answers = max(1, answers)
        self._finished: set[int] = set()
        self._promised = self._reported = False
        """`_promised` is True after a chunk has announced a usage report. `_reported` is True after the report."""

    def close(self) -> Iterator[Event]:
        try:
            yield from super().close()
        except Truncated:
            if not self._is_finished() or (self._promised and not self._reported):
                raise
        if not self._over:
            yield Event(_DONE, b"", sse.encode(_END))

    def whole(self, body: bytes) -> bytes:
        data = json_api.json_object(body)
        if not isinstance(data.get("choices"), list) or (data.get("error") and not data["choices"]):
            raise BadFrame("the provider's reply is no chat completion")
        return body

    def _is_finished(self) -> bool:
        return len(self._finished) >= self._answers

    def _is_last(self, event: Event) -> bool:
        if event.kind == _DONE:
            return True
        payload = event.payload
        if _FINISHED.search(payload) and not self._is_finished():
            ended = (choice for choice in _choices(event.data) if finish_reason(choice))
            self._finished |= {whole_number(choice.get("index")) for choice in ended}
        if _REPORTED.search(payload) or (not self._promised and b'"usage"' in payload):
            self._note_usage(event)
        return False

    def _note_usage(self, event: Event) -> None:
        data = mapping(event.data)
        reported = bool(mapping(data.get("usage")))
        self._reported = self._reported or reported
        self._promised = self._promised or data.get("usage", 0) is None
        # a chunk without choices and without usage may be Azure's first chunk, with the results of content filters
        if reported and not _choices(data):
            self.done = self.done or self._is_finished()
            if self._hide_usage:
                event.raw = b""
                event.kind = f"{CHUNK}.usage"


def _kind(name: str, payload: bytes) -> str:
    if not payload.startswith(b"{") and payload.strip(b' "').upper() in _ENDS:
        return _DONE
    return _ERROR if name == _ERROR and b'"choices"' not in payload else CHUNK


def _failure(event: Event) -> Problem | None:
    """Return the problem that an event of a stream reports, or None if it reports none.

    Servers report a failure as an event `error`, in a field `error` of the chunk or of a choice, or as an object
    without choices. Such an object has `"object": "error"` (vLLM), or a message in `message`, `msg` or `detail`.
    """
    payload = event.payload
    if event.kind == _ERROR:
        return problem_in_event(payload)
    if payload.lstrip()[:1] != b"{" or (b'"choices"' in payload and b'"error"' not in payload):
        return None
    data = mapping(event.data)
    if data.get("error"):
        return google_errors.with_details(reported_problem(data), data)
    if reported := next((choice for choice in _choices(data) if choice.get("error")), None):
        return failure(reported)
    return reported_problem(data) if not data.keys() & _CHUNK_MEMBERS and _has_words(data) else None


def _has_words(data: dict[str, Any]) -> bool:
    return data.get("object") == _ERROR or any(data.get(name) for name in ("message", "msg", "detail"))


class ChatMeter:
    """Reads usage, stop reason, tier, model and names of called tools from a body or from chunks."""

    def __init__(self, request: ClientRequest | None = None) -> None:
        self._facts = Facts()
        self._numbers: dict[int, CallNumbers] = {}
        self._marks = Marks(request)
        self._reports = Reports()
        self._model = self._tier = ""
        self._searched = request is not None and "web_search_options" in request.top
        """True if the request allowed web searches, so that the model may have made some."""
        self._named: set[tuple[int, int]] = set()
        """Pairs (choice, number) of the counted calls. Some servers repeat a tool's name, but a call counts once."""

    def feed(self, event: Event) -> None:
        payload = event.payload
        if (
            _METERED.search(payload)
            or (not self._model and b'"model"' in payload)
            or (not self._tier and _TIERED.search(payload))
        ):
            self._read(event.data, "delta")

    def whole(self, body: bytes) -> None:
        self._read(json_api.json_object(body), "message")

    def facts(self) -> Facts:
        facts, reports = self._facts, self._reports
        facts.parts = (reports.part(self._marks, self._model, self._tier),)
        facts.reported, facts.charged = reports.reported, reports.charged
        # searches are billed beside the tokens, and most servers do not say how many there were
        uncounted = self._searched and "web_search" not in reports.extra
        facts.inexact = uncounted or not reports.is_exact(self._marks)
        return facts

    def _read(self, data: Any, part: str) -> None:
        facts = self._facts
        self._model = text(mapping(data).get("model")) or self._model
        self._tier = text(mapping(data).get("service_tier")) or self._tier
        for choice in _choices(data):
            facts.stop = facts.stop or finish_reason(choice)
            said = mapping(choice.get(part))
            calls = sequence(said.get("tool_calls"))
            if said.get("function_call"):  # the form of a call before November 2023
                calls = [*calls, {"index": 0, "function": said["function_call"]}]
            if calls:
                self._tools(calls, whole_number(choice.get("index")), whole=part == "message")
            self._searched = self._searched or bool(said.get("annotations"))
        if usage := mapping(data).get("usage"):
            self._reports.add(mapping(usage))

    def _tools(self, calls: list[Any], choice: int, *, whole: bool) -> None:
        for number, call in self._numbers.setdefault(choice, CallNumbers()).read(calls, whole=whole):
            name = text(mapping(call.get("function") or call.get("custom")).get("name"))
            if name and (choice, number) not in self._named:
                self._named.add((choice, number))
                self._facts.tools.append(name)


def _choices(data: Any) -> list[dict[str, Any]]:
    return [mapping(choice) for choice in sequence(mapping(data).get("choices"))]


def meter(request: ClientRequest, _target: Target, _head: Head) -> Meter:
    return ChatMeter(request)


class Encoder(sse_api.SseEncoder):
    def feed(self, event: Event) -> bytes:
        if event.kind != CHUNK:
            return b""
        return sse.encode(event.payload)

    def fail(self, problem: Problem) -> bytes:
        return sse.encode(error(problem)[2])

    def close(self) -> bytes:
        return sse.encode(b"[DONE]")


def encoder(_request: ClientRequest) -> Encoder:
    return Encoder()


def output_bytes(event: Event) -> int:
    """Return the number of bytes of text, refusals, thinking and tool arguments in a chunk."""
    if event.kind != CHUNK:
        return 0
    size = piece_bytes(_PIECE, event.payload)
    return sum(map(_choice_bytes, _choices(event.data))) if size is None else size


def _choice_bytes(choice: dict[str, Any]) -> int:
    """Return the number of output bytes in one choice.

    Some servers send the same thinking in two fields. It is counted once.
    """
    delta = mapping(choice.get("delta"))
    if len(delta) == 1 and isinstance(delta.get("content"), str):
        return json_api.text_bytes(delta["content"])
    calls = [mapping(call) for call in sequence(delta.get("tool_calls"))]
    functions = [mapping(call.get("function")) for call in (*calls, {"function": delta.get("function_call")})]
    arguments = (function.get("arguments") for function in functions)
    inputs = (mapping(call.get("custom")).get("input") for call in calls)
    thinking = max(json_api.text_bytes(delta.get("reasoning_content")), json_api.text_bytes(delta.get("reasoning")))
    texts, thoughts, _ = parts_of(delta.get("content"))
    return thinking + json_api.text_bytes(*texts, *thoughts, delta.get("refusal"), *arguments, *inputs)
