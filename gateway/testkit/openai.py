"""A simulated api.openai.com. It serves POST /v1/chat/completions and POST /v1/responses, each with and without
streaming, and GET /v1/models.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from aiohttp import web

from gateway.contract.framing import sse
from gateway.testkit import prompts
from gateway.testkit.render import chat as render_chat
from gateway.testkit.render import responses as render_responses
from gateway.testkit.rules.chat import chat_fault
from gateway.testkit.rules.responses import responses_fault
from gateway.testkit.simulator import Refusal, Seen, Simulator

_ERRORS: Final = {
    "ThrottlingException": (429, "rate_limit_exceeded"),
    "InternalServerException": (500, "server_error"),
    "ServiceUnavailableException": (503, "server_error"),
    "ValidationException": (400, "invalid_request_error"),
    "AccessDeniedException": (403, "permission_error"),
}
_HEADERS: Final = {"x-request-id": "req_simulated"}
_STREAM: Final = {"content-type": "text/event-stream; charset=utf-8"}


class OpenAISim(Simulator):
    """A simulated provider with OpenAI's API. `listed` are the ids in its list of models."""

    def __init__(self, keys: set[str] | None = None) -> None:
        super().__init__(keys)
        self.listed: list[str] = []

    def failure(self, name: str, message: str) -> Refusal:
        status, kind = _ERRORS.get(name, (500, "server_error"))
        return error(status, kind, message)

    async def respond(self, seen: Seen, request: web.Request) -> web.StreamResponse:
        if self.keys is not None and seen.headers.get("authorization", "").removeprefix("Bearer ") not in self.keys:
            raise error(401, "invalid_request_error", "Incorrect API key provided")
        if (seen.method, seen.path) == ("GET", "/v1/models"):
            data = [{"id": name, "object": "model", "created": 0, "owned_by": "simulated"} for name in self.listed]
            return web.json_response({"object": "list", "data": data})
        serve = {"/v1/chat/completions": self._chat, "/v1/responses": self._response}.get(seen.path)
        if seen.method != "POST" or serve is None:
            raise error(404, "invalid_request_error", f"Invalid URL ({seen.method} {seen.path})")
        return await serve(orjson.loads(seen.body), request)

    async def _chat(self, body: Any, request: web.Request) -> web.StreamResponse:
        if fault := chat_fault(body):
            raise error(400, "invalid_request_error", fault)
        prompt = prompts.read(body)
        scenario, reply = await self.choose(prompt)
        model = body["model"]
        if body.get("stream") is not True:
            whole = render_chat.completion(reply, model, prompt.tokens)
            return await self.whole(request, scenario, orjson.dumps(whole), _HEADERS)
        include_usage = (body.get("stream_options") or {}).get("include_usage") is True
        chunks = render_chat.chunks(reply, model, prompt.tokens, include_usage=include_usage)
        frames = [*(sse.encode(orjson.dumps(chunk)) for chunk in chunks), sse.encode(b"[DONE]")]
        failure = sse.encode(orjson.dumps(error(500, "server_error", scenario.message).body))
        return await self.stream(request, scenario, frames, failure, _STREAM)

    async def _response(self, body: Any, request: web.Request) -> web.StreamResponse:
        if fault := responses_fault(body):
            raise error(400, "invalid_request_error", fault)
        prompt = prompts.read_responses(body)
        scenario, reply = await self.choose(prompt)
        model = body["model"]
        if body.get("stream") is not True:
            whole = render_responses.response(reply, model, prompt.tokens)
            return await self.whole(request, scenario, orjson.dumps(whole), _HEADERS)
        frames = [_named(event) for event in render_responses.events(reply, model, prompt.tokens)]
        failure = b"".join(map(_named, render_responses.failure(scenario.message, scenario.fail_after or 0)))
        return await self.stream(request, scenario, frames, failure, _STREAM)


def _named(event: dict[str, Any]) -> bytes:
    return sse.encode(orjson.dumps(event), event["type"])


def error(status: int, kind: str, message: str) -> Refusal:
    return Refusal(status, {"error": {"message": message, "type": kind, "param": None, "code": None}})
