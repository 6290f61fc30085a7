"""A simulated api.anthropic.com. It serves POST /v1/messages, with and without streaming, POST
/v1/messages/count_tokens, and GET /v1/models.

The same paths are also served below /anthropic, as on Bedrock.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

import orjson
from aiohttp import web

from gateway.contract.capabilities import capabilities
from gateway.contract.framing import sse
from gateway.testkit import prompts
from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.rules.claude import claude_fault
from gateway.testkit.simulator import Refusal, Seen, Simulator

_ERRORS: Final = {
    "ThrottlingException": (429, "rate_limit_error"),
    "InternalServerException": (500, "api_error"),
    "ServiceUnavailableException": (529, "overloaded_error"),
    "ValidationException": (400, "invalid_request_error"),
    "AccessDeniedException": (403, "permission_error"),
}


_MAX_LISTED: Final = 1000
_CREATED: Final = "2026-01-01T00:00:00Z"


class AnthropicSim(Simulator):
    """A simulated provider with Anthropic's API. `listed` are the ids in its list of models."""

    def __init__(self, keys: set[str] | None = None) -> None:
        super().__init__(keys)
        self.listed: list[str] = []
        self.per_page = _MAX_LISTED
        """Maximum number of models on a page of the list. A request may ask for fewer."""

    def failure(self, name: str, message: str) -> Refusal:
        status, kind = _ERRORS.get(name, (500, "api_error"))
        return error(status, kind, message)

    async def respond(self, seen: Seen, request: web.Request) -> web.StreamResponse:
        key = seen.headers.get("x-api-key") or seen.headers.get("authorization", "").removeprefix("Bearer ")
        if self.keys is not None and key not in self.keys:
            raise error(401, "authentication_error", "invalid x-api-key")
        # Bedrock has the same API under /anthropic
        path = seen.path.removeprefix("/anthropic")
        if seen.method == "GET" and path == "/v1/models":
            return self._models(seen)
        if seen.method != "POST" or path not in {"/v1/messages", "/v1/messages/count_tokens"}:
            raise error(404, "not_found_error", "Not found")
        if "anthropic-version" not in seen.headers:
            raise error(400, "invalid_request_error", "anthropic-version: header is required")
        body = orjson.loads(seen.body)
        counting = seen.path.endswith("count_tokens")
        judged = {"max_tokens": 1, **body} if counting else body
        if fault := claude_fault(judged, capabilities(str(body.get("model"))), bedrock=False):
            raise error(400, "invalid_request_error", fault)
        prompt = prompts.read(body)
        if counting:
            return web.json_response({"input_tokens": prompt.tokens})
        scenario, reply = await self.choose(prompt)
        model = body["model"]
        reply = self.billed(reply, model, capabilities(model), body)
        if body.get("stream") is not True:
            whole = render_anthropic.message(reply, model, prompt.tokens)
            return await self.whole(request, scenario, orjson.dumps(whole), {"request-id": "req_simulated"})
        events = render_anthropic.events(reply, model, prompt.tokens)
        # the real service sends a ping after the first event, too, to keep connections alive
        events.insert(1, {"type": "ping"})
        frames = [sse.encode(orjson.dumps(event), event["type"]) for event in events]
        status, kind = _ERRORS.get(scenario.error, (500, "api_error"))
        failure = sse.encode(orjson.dumps(error(status, kind, scenario.message).body), "error")
        return await self.stream(
            request, scenario, frames, failure, {"content-type": "text/event-stream; charset=utf-8"}
        )

    def _models(self, seen: Seen) -> web.Response:
        if "anthropic-version" not in seen.headers:
            raise error(400, "invalid_request_error", "anthropic-version: header is required")
        query = {name: values[0] for name, values in parse_qs(seen.query).items()}
        most, after = query.get("limit", "20"), query.get("after_id")
        if not most.isdecimal() or not 1 <= int(most) <= _MAX_LISTED:
            raise error(400, "invalid_request_error", f"limit: Input should be from 1 to {_MAX_LISTED}")
        start = 0 if after is None else self.listed.index(after) + 1
        names = self.listed[start : start + min(int(most), self.per_page)]
        data = [{"type": "model", "id": name, "display_name": name, "created_at": _CREATED} for name in names]
        has_more = start + len(names) < len(self.listed)
        first, last = (names[0], names[-1]) if names else (None, None)
        return web.json_response({"data": data, "has_more": has_more, "first_id": first, "last_id": last})


def error(status: int, kind: str, message: str) -> Refusal:
    return Refusal(status, {"type": "error", "error": {"type": kind, "message": message}})
