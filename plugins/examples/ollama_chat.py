"""The plugin of Ollama's own chat API (POST /api/chat), whose streams are lines of JSON (NDJSON).

    "providers": { "ollama": { "baseurl": "http://127.0.0.1:11434", "models": ["qwen3"],
                               "compatibility": { "ollama_chat": true } } }

Source: Ollama's API documentation (Generate a chat completion).
"""

import orjson

from gateway.contract import json_api
from gateway.contract.errors import STATUS, BadFrame, Truncated
from gateway.contract.flag import End, Event, Facts, Part, Place, Route, Sample, UpstreamRequest, Usage

api = 1
dialects = ("ollama_chat",)
routes = (Route("POST", "/api/chat", "generate"),)
content_type = "application/x-ndjson"


def parse(request):
    """Return the parsed request. In Ollama's API, a request without `stream` asks for a stream."""
    return json_api.parse("ollama_chat", "ollama_chat", request, streams=True)


def build(request, target, drop):
    body = request.top.spliced({"model": orjson.dumps(target.model)})
    return UpstreamRequest("POST", "/api/chat", body, headers={"content-type": "application/json"})


def decoder(request, target, head):
    return Lines()


class Lines:
    """Decodes a stream whose lines are JSON. The last line has `"done": true`."""

    def __init__(self):
        self.done = False
        self._rest = b""

    def feed(self, data):
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield self._event(line, line + b"\n")

    def close(self):
        if self._rest.strip():
            yield self._event(self._rest, self._rest)
        if not self.done:
            raise Truncated

    def whole(self, body):
        json_api.json_object(body)
        return body

    def _event(self, line, raw):
        event = Event("chat", line, raw)
        data = json_api.event_object(event)
        if "error" in data:
            raise BadFrame(str(data["error"]))
        self.done = self.done or data.get("done") is True
        return event


def encoder(request):
    return Encoder()


class Encoder:
    def feed(self, event):
        return event.payload + b"\n"

    def whole(self, body):
        return body

    def ping(self):
        return b""

    def fail(self, problem):
        return orjson.dumps({"error": problem.message}) + b"\n"

    def close(self):
        return b""


def error(problem):
    body = orjson.dumps({"error": problem.message})
    return STATUS[problem.code], {"content-type": "application/json"}, body


def meter(request, target, head):
    return Meter()


class Meter:
    """Reads the token counts from the last line of a stream, or from a whole reply."""

    def __init__(self):
        self._facts = Facts()

    def feed(self, event):
        self._read(json_api.event_object(event))

    def whole(self, body):
        self._read(json_api.json_object(body))

    def facts(self):
        return self._facts

    def _read(self, data):
        if data.get("done") is True:
            read, written = (json_api.token_count(data, name) for name in ("prompt_eval_count", "eval_count"))
            model = data.get("model")
            self._facts.parts = (
                Part(usage=Usage(input=read, output=written), model=model if isinstance(model, str) else ""),
            )
            self._facts.reported = True
            self._facts.stop = str(data.get("done_reason") or "stop")


def places(event):
    """Yield a `Place` for each text in a request, in a whole reply, or in one line of a stream."""
    data = json_api.event_object(event)
    messages = data.get("messages") if event.kind == "request" else None
    for number, message in enumerate(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and isinstance(message.get("content"), str):
            yield Place(("messages", number, "content"), role=str(message.get("role")))
    message = data.get("message")
    if isinstance(message, dict):
        for name, kind in (("content", "text"), ("thinking", "thinking")):
            if isinstance(message.get(name), str) and message[name]:
                yield Place(("message", name), kind, name)
    if data.get("done") is True:
        yield End("content")
        yield End("thinking")


def samples():
    first = b'{"model":"qwen3","message":{"role":"assistant","content":"Hel"},"done":false}\n'
    last = (
        b'{"model":"qwen3","message":{"role":"assistant","content":"lo"},"done":true,"done_reason":"stop",'
        b'"prompt_eval_count":5,"eval_count":2}\n'
    )
    return [
        Sample(
            request=b'{"model":"qwen3","messages":[{"role":"user","content":"hi"}],"stream":true}',
            whole=last.replace(b'"lo"', b'"Hello"').strip(),
            stream=first + last,
        )
    ]
