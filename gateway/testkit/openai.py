"""A simulated api.openai.com: POST /v1/chat/completions, streamed and not."""

from __future__ import annotations

from typing import Final

import orjson
from aiohttp import web

from gateway.framing import sse
from gateway.testkit import prompts, render_chat
from gateway.testkit.rules_chat import chat_fault
from gateway.testkit.simulator import Refusal, Seen, Simulator

_ERRORS: Final = {
    "ThrottlingException": (429, "rate_limit_exceeded"),
    "InternalServerException": (500, "server_error"),
    "ServiceUnavailableException": (503, "server_error"),
    "ValidationException": (400, "invalid_request_error"),
    "AccessDeniedException": (403, "permission_error"),
}


class OpenAISim(Simulator):
    def failure(self, name: str, message: str) -> Refusal:
        status, kind = _ERRORS.get(name, (500, "server_error"))
        return error(status, kind, message)

    async def respond(self, seen: Seen, request: web.Request) -> web.StreamResponse:
        if self.keys is not None and seen.headers.get("authorization", "").removeprefix("Bearer ") not in self.keys:
            raise error(401, "invalid_request_error", "Incorrect API key provided")
        if seen.method != "POST" or seen.path != "/v1/chat/completions":
            raise error(404, "invalid_request_error", f"Invalid URL ({seen.method} {seen.path})")
        body = orjson.loads(seen.body)
        if fault := chat_fault(body):
            raise error(400, "invalid_request_error", fault)
        prompt = prompts.read(body)
        scenario, reply = await self.choose(prompt)
        model = body["model"]
        if body.get("stream") is not True:
            whole = render_chat.completion(reply, model, prompt.tokens)
            return await self.whole(request, scenario, orjson.dumps(whole), {"x-request-id": "req_simulated"})
        include_usage = (body.get("stream_options") or {}).get("include_usage") is True
        chunks = render_chat.chunks(reply, model, prompt.tokens, include_usage=include_usage)
        frames = [*(sse.encode(orjson.dumps(chunk)) for chunk in chunks), sse.encode(b"[DONE]")]
        failure = sse.encode(orjson.dumps(error(500, "server_error", scenario.message).body))
        return await self.stream(
            request, scenario, frames, failure, {"content-type": "text/event-stream; charset=utf-8"}
        )


def error(status: int, kind: str, message: str) -> Refusal:
    return Refusal(status, {"error": {"message": message, "type": kind, "param": None, "code": None}})
