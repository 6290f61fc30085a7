"""Requests of the load client and replies of the upstream, in OpenAI's Chat Completions format and in Bedrock's
Converse format.

Each chunk of a streamed reply has a placeholder, which the upstream replaces by the time at which it sends the chunk.
"""

import json
from dataclasses import dataclass

from gateway.contract.framing.eventstream import encode
from tests.bench import conversation

CHAT_MODEL = "gpt-4o-mini"
CONVERSE_MODEL = "us.amazon.nova-lite-v1:0"
STAMP = "@" + "0" * 16
"""A placeholder in a chunk for the time at which the chunk is sent. `wire/load.c` finds the time by the character `@`
and the 16 digits after it.
"""
PROMPT = "What is the tallest mountain of each continent? " * 20
ANSWER = "Mount Everest, Aconcagua, Denali, Kilimanjaro. " * 10
_CREATED = 1_764_000_000


@dataclass(frozen=True)
class Reply:
    """The bytes of a reply: a head, a chunk that is repeated, and a tail."""

    head: bytes
    chunk: bytes = b""
    tail: bytes = b""
    crc: tuple[int, int] = (0, 0)
    """The bytes of a chunk that a CRC-32 covers, as offsets (first byte, byte after the last one). The CRC follows
    these bytes. Both offsets are 0 for a chunk without a CRC.
    """

    @property
    def stamp_at(self):
        return self.chunk.find(STAMP.encode()) + 1 if self.chunk else -1


def _whole(document):
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return Reply(head.encode() + body)


def _head(content_type):
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def _framed(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def _chat_chunk(choices, **more):
    shared = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": _CREATED, "model": CHAT_MODEL}
    return f"data: {json.dumps({**shared, 'choices': choices, **more}, separators=(',', ':'))}\n\n".encode()


def _chat_choice(delta, finish_reason=None):
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]


def _chat_reply():
    message = {"role": "assistant", "content": ANSWER, "refusal": None}
    return _whole(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": _CREATED,
            "model": CHAT_MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 190, "completion_tokens": 110, "total_tokens": 300},
        }
    )


def _chat_stream():
    usage = {"prompt_tokens": 190, "completion_tokens": 110, "total_tokens": 300}
    last = [_chat_chunk(_chat_choice({}, "stop")), _chat_chunk([], usage=usage), b"data: [DONE]\n\n"]
    return Reply(
        _head("text/event-stream") + _framed(_chat_chunk(_chat_choice({"role": "assistant", "content": ""}))),
        _framed(_chat_chunk(_chat_choice({"content": f" {STAMP}"}))),
        _framed(b"".join(last)) + b"0\r\n\r\n",
    )


_USAGE = {"inputTokens": 190, "outputTokens": 110, "totalTokens": 300}


def _converse_reply():
    message = {"role": "assistant", "content": [{"text": ANSWER}]}
    return _whole(
        {"metrics": {"latencyMs": 700}, "output": {"message": message}, "stopReason": "end_turn", "usage": _USAGE}
    )


def _event(kind, data):
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return encode(headers, json.dumps({**data, "p": "abcdefghijkl"}, separators=(",", ":")).encode())


def _converse_stream():
    event = _event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": f" {STAMP}"}})
    chunk = _framed(event)
    begin = chunk.index(event)
    last = [
        _event("contentBlockStop", {"contentBlockIndex": 0}),
        _event("messageStop", {"stopReason": "end_turn"}),
        _event("metadata", {"usage": _USAGE, "metrics": {"latencyMs": 700}}),
    ]
    return Reply(
        _head("application/vnd.amazon.eventstream") + _framed(_event("messageStart", {"role": "assistant"})),
        chunk,
        _framed(b"".join(last)) + b"0\r\n\r\n",
        (begin, begin + len(event) - 4),
    )


CHAT, CHAT_STREAM, CONVERSE, CONVERSE_STREAM = "chat", "chat stream", "Converse", "Converse stream"
REPLIES = {
    CHAT: _chat_reply(),
    CHAT_STREAM: _chat_stream(),
    CONVERSE: _converse_reply(),
    CONVERSE_STREAM: _converse_stream(),
}
"""The upstream's replies, by dialect."""


@dataclass(frozen=True)
class Request:
    """A client's request without the parts that differ by system: the address, some headers and the model's name."""

    dialect: str
    """The dialect that the client speaks: a key of `REPLIES`."""
    model: str = CHAT_MODEL
    megabytes: int = 0
    """The size of the image in the request. It is 0 for a request without an image."""
    kilobytes: int = 0
    """The size of the conversation in a Chat request. It is 0 for a single short message."""

    @property
    def is_streamed(self):
        return self.dialect in {CHAT_STREAM, CONVERSE_STREAM}

    @property
    def provider_dialect(self):
        """The dialect of the provider that has the model: a key of `REPLIES`."""
        if self.model == CHAT_MODEL:
            return self.dialect
        return CONVERSE_STREAM if self.is_streamed else CONVERSE

    @property
    def path(self):
        match self.dialect:
            case "chat" | "chat stream":
                return "/v1/chat/completions"
            case "Converse":
                return f"/model/{self.model}/converse"
            case _:
                return f"/model/{self.model}/converse-stream"

    def document(self, model):
        if self.dialect not in {CHAT, CHAT_STREAM}:
            return {
                "messages": [{"role": "user", "content": [{"text": PROMPT}]}],
                "inferenceConfig": {"maxTokens": 512},
            }
        streamed = {"stream": True, "stream_options": {"include_usage": True}} if self.is_streamed else {}
        told = {"messages": [{"role": "user", "content": self._content}]}
        if self.kilobytes:
            told = {"messages": conversation.messages(self.kilobytes), "tools": conversation.TOOLS}
        return {"model": model, **told, "max_tokens": 512, **streamed}

    @property
    def _content(self):
        if not self.megabytes:
            return PROMPT
        image = {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64," + "iVBO" * (self.megabytes * 2**18)},
        }
        return [{"type": "text", "text": PROMPT}, image]


def request_bytes(request, *, path, headers, model):
    """Return the bytes of a whole request.

    `path`, `headers` and `model` are the path, the headers and the model's name for the system that gets the request.
    """
    body = json.dumps(request.document(model)).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: OpenAI/Python 3.54.0",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
