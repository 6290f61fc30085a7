"""A simulated generativelanguage.googleapis.com: generateContent, streamGenerateContent, countTokens, and the list of
models.

A stream consists of server-sent events if the request has `alt=sse`. Otherwise it is a JSON array, written as Google
writes it. Sources: the Gemini API's reference, and Google's API design guide for errors (AIP-193).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import orjson
from aiohttp import web

from gateway.contract.framing import sse
from gateway.testkit import prompts
from gateway.testkit.render import gemini as render_gemini
from gateway.testkit.rules.gemini import gemini_fault
from gateway.testkit.simulator import Refusal, Seen, Simulator

_ERRORS: Final = {
    "ThrottlingException": (429, "RESOURCE_EXHAUSTED"),
    "InternalServerException": (500, "INTERNAL"),
    "ServiceUnavailableException": (503, "UNAVAILABLE"),
    "ValidationException": (400, "INVALID_ARGUMENT"),
    "AccessDeniedException": (403, "PERMISSION_DENIED"),
}
_PATH: Final = re.compile(r"/v1(?:beta|alpha)?/models/([^/:]+):(generateContent|streamGenerateContent|countTokens)")
_MAX_LISTED: Final = 1000
_STREAM: Final = {"content-type": "text/event-stream"}
_JSON: Final = {"content-type": "application/json; charset=UTF-8"}


class GeminiSim(Simulator):
    """A simulated provider with the Gemini API. `listed` maps each listed model to its supported methods."""

    def __init__(self, keys: set[str] | None = None) -> None:
        super().__init__(keys)
        self.listed: dict[str, list[str]] = {}
        self.per_page = _MAX_LISTED
        """Maximum number of models on a page of the list. A request may ask for fewer."""

    def failure(self, name: str, message: str) -> Refusal:
        status, kind = _ERRORS.get(name, (500, "INTERNAL"))
        return error(status, kind, message)

    async def respond(self, seen: Seen, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(seen, request)
        except Refusal as refusal:
            if ":streamGenerateContent" in seen.path and not _is_sse(seen):
                raise Refusal(refusal.status, [refusal.body]) from None
            raise

    async def _answer(self, seen: Seen, request: web.Request) -> web.StreamResponse:
        key = seen.headers.get("x-goog-api-key")
        if self.keys is not None and key not in self.keys:
            raise error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", "API_KEY_INVALID")
        if (seen.method, seen.path) == ("GET", "/v1beta/models"):
            return self._models(seen)
        path = _PATH.fullmatch(seen.path)
        if seen.method != "POST" or path is None:
            raise error(404, "NOT_FOUND", "Requested entity was not found.")
        model, method = unquote(path[1]), path[2]
        body = orjson.loads(seen.body)
        if method == "countTokens":
            return self._counted(body, model)
        if fault := gemini_fault(body, model):
            raise error(400, "INVALID_ARGUMENT", fault)
        prompt = prompts.read_gemini(body)
        scenario, reply = await self.choose(prompt)
        if method == "generateContent":
            whole = orjson.dumps(render_gemini.response(reply, model, prompt.tokens))
            return await self.whole(request, scenario, whole, _JSON)
        chunks = [orjson.dumps(chunk) for chunk in render_gemini.chunks(reply, model, prompt.tokens)]
        status, kind = _ERRORS.get(scenario.error, (500, "INTERNAL"))
        failed = orjson.dumps(error(status, kind, scenario.message).body)
        if _is_sse(seen):
            frames = [_event(chunk) for chunk in chunks]
            return await self.stream(request, scenario, frames, _event(failed), _STREAM)
        return await self.stream(request, scenario, _array(chunks), b",\r\n" + failed + b"]", _JSON)

    def _models(self, seen: Seen) -> web.Response:
        query = {name: values[0] for name, values in parse_qs(seen.query).items()}
        start = int(query.get("pageToken", "0"))
        end = start + min(int(query.get("pageSize", "50")), self.per_page)
        page = [
            {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}
            for name, methods in list(self.listed.items())[start:end]
        ]
        more = {"nextPageToken": str(end)} if end < len(self.listed) else {}
        return web.json_response({"models": page, **more})

    def _counted(self, body: Any, model: str) -> web.Response:
        inner = body.get("generateContentRequest")
        if isinstance(inner, dict) and inner.get("model") != f"models/{model}":
            raise error(400, "INVALID_ARGUMENT", "The model in the request does not match the model in the path.")
        counted = {name: value for name, value in (inner or body).items() if name != "model"}
        if fault := gemini_fault(counted, model):
            raise error(400, "INVALID_ARGUMENT", fault)
        tokens = prompts.read_gemini(counted).tokens
        details = [{"modality": "TEXT", "tokenCount": tokens}]
        return web.json_response({"totalTokens": tokens, "promptTokensDetails": details})


def _is_sse(seen: Seen) -> bool:
    return parse_qs(seen.query).get("alt") == ["sse"]


def _event(chunk: bytes) -> bytes:
    """Return a chunk as an SSE event whose lines end with CR LF, as Google's do."""
    return sse.encode(chunk).replace(b"\n", b"\r\n")


def _array(chunks: Sequence[bytes]) -> list[bytes]:
    """Return the chunks of a stream as Google sends them, as pieces of one JSON array. Each piece except the first
    begins with a comma.
    """
    pieces = [(b"," if number else b"[") + chunk + b"\r\n" for number, chunk in enumerate(chunks)]
    return [*pieces[:-1], pieces[-1] + b"]"]


def error(status: int, kind: str, message: str, reason: str = "") -> Refusal:
    inner: dict[str, Any] = {"code": status, "message": message, "status": kind}
    if reason:
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
        inner["details"] = [info]
    return Refusal(status, {"error": inner})
