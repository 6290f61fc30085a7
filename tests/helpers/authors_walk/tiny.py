"""The API of the fictitious provider Tiny: POST /tiny/v1/say. A streamed reply is lines of JSON, and the last one has
"end".

Its author began with the example `ollama_chat`, so parts of both modules are equal.
"""

import orjson

from gateway.contract import json_api
from gateway.contract.errors import STATUS, BadFrame, Truncated
from gateway.contract.flag import End, Event, Facts, Part, Place, Route, Sample, UpstreamRequest, Usage

api = 1
dialects = ("tiny",)
routes = (Route("POST", "/tiny/v1/say", "generate"),)
content_type = "application/x-ndjson"


def build(request, target, drop):
    body = request.top.spliced({"model": orjson.dumps(target.model)})
    return UpstreamRequest("POST", "/tiny/v1/say", body, headers={"content-type": "application/json"})


def decoder(request, target, head):
    return Lines()


class Lines:
    def __init__(self):
        self.done = False
        self.rest = b""

    def feed(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield self.line(line, line + b"\n")

    def close(self):
        if self.rest.strip():
            yield self.line(self.rest, self.rest)
        if not self.done:
            raise Truncated

    def whole(self, body):
        json_api.json_object(body)
        return body

    def line(self, line, raw):
        event = Event("line", line, raw)
        data = json_api.event_object(event)
        if "error" in data:
            raise BadFrame(str(data["error"]))
        self.done = "end" in data
        return event


def encoder(request):
    return Encoder()


class Encoder:
    def feed(self, event):
        return event.payload + b"\n"

    def whole(self, body):
        return body

    def ping(self):
        return b"\n"

    def fail(self, problem):
        return orjson.dumps({"error": problem.message}) + b"\n"

    def close(self):
        return b""


def error(problem):
    return STATUS[problem.code], {"content-type": "application/json"}, orjson.dumps({"error": problem.message})


def meter(request, target, head):
    return Meter()


class Meter:
    def __init__(self):
        self._facts = Facts()

    def feed(self, event):
        self.read(json_api.event_object(event))

    def whole(self, body):
        self.read(json_api.json_object(body))

    def facts(self):
        return self._facts

    def read(self, data):
        if "end" in data:
            usage = Usage(input=json_api.token_count(data, "in"), output=json_api.token_count(data, "out"))
            self._facts.parts = (Part(usage=usage),)
            self._facts.reported = True
            self._facts.stop = str(data["end"])


def places(event):
    data = json_api.event_object(event)
    if event.kind == "request":
        if isinstance(data.get("say"), str):
            yield Place(("say",), role="user")
        return
    for name in ("piece", "text"):
        if isinstance(data.get(name), str):
            yield Place((name,))
    if "end" in data:
        yield End()


def samples():
    return [
        Sample(
            request=b'{"model": "tiny-1", "say": "hi", "stream": true}',
            whole=b'{"text": "Hello, you", "end": "stop", "in": 3, "out": 5}',
            stream=b'{"piece": "Hello, "}\n{"piece": "you"}\n{"end": "stop", "in": 3, "out": 5}\n',
        )
    ]
