"""A translator in another author's package. It translates Chat Completions to an API that takes a prompt and returns a
text. The plugin of this API is in the same package.
"""

import json

from gateway.contract import json_api
from gateway.contract.errors import invalid
from gateway.contract.flag import Sample, event

api = 1
operations = ("generate",)
loses = 50
TRANSLATED = ("model", "messages", "stream", "stream_options")
CHUNK = "chat.completion.chunk"


def open(request, target, drop):  # noqa: A001 (the contract's name)
    for name in request.top:
        if name not in TRANSLATED:
            drop(f"/{name}")
    body = {"model": request.model, "prompt": prompt_of(request), "stream": request.stream}
    return Translation(request.with_body(target.dialect, body))


def prompt_of(request):
    messages = request.top.decode("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a list", "messages")
    lines = []
    for message in messages:
        texts = [message.get(name) for name in ("role", "content")] if isinstance(message, dict) else [None]
        if not all(isinstance(text, str) for text in texts) or len(message) != len(texts):
            raise invalid("each message must have a role and a content of text, and nothing else", "messages")
        lines.append(": ".join(texts))
    return "\n".join(lines)


class Translation:
    def __init__(self, request):
        self.request = request

    def feed(self, upstream):
        if upstream.payload == b"[DONE]":
            return []
        reply = Reply(json_api.event_object(upstream))
        events = []
        if reply.text or reply.stop:
            delta = {"content": reply.text} if reply.text else {}
            choice = {"index": 0, "delta": delta, "finish_reason": reply.stop}
            events.append(event(CHUNK, {"id": "zenith", "object": CHUNK, "choices": [choice]}))
        if reply.usage:
            events.append(event(CHUNK, {"id": "zenith", "object": CHUNK, "choices": [], "usage": reply.usage}))
        return events

    def whole(self, body):
        reply = Reply(json_api.json_object(body))
        message = {"role": "assistant", "content": reply.text}
        choice = {"index": 0, "message": message, "finish_reason": reply.stop or "stop"}
        return json.dumps(
            {"id": "zenith", "object": "chat.completion", "choices": [choice], "usage": reply.usage}
        ).encode()

    def close(self):
        return []


class Reply:
    """A reply or an event of the provider: its text, its stop reason and its usage, as Chat Completions has them."""

    def __init__(self, data):
        text = data.get("text")
        self.text = text if isinstance(text, str) else ""
        self.stop = "stop" if data.get("stop") else None
        self.usage = None
        if usage := data.get("usage"):
            read, written = (json_api.token_count(usage, name) for name in ("read", "written"))
            self.usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def samples():
    return [
        Sample(
            request=b'{"model": "m", "messages": [{"role": "user", "content": "hi"}],'
            b' "stream_options": {"include_usage": true}}',
            whole=b'{"text": "Hello", "stop": "end", "usage": {"read": 1, "written": 2}}',
            stream=b'data: {"text": "Hel"}\n\ndata: {"text": "lo"}\n\n'
            b'data: {"stop": "end", "usage": {"read": 1, "written": 2}}\n\ndata: [DONE]\n\n',
            neutral=("/stream_options",),
        )
    ]
