"""Calls in every client's format to providers of several formats, for tests that write the bytes of the providers'
replies themselves.
"""

import json
import struct
from base64 import b64encode
from contextlib import AsyncExitStack, asynccontextmanager
from zlib import crc32

from gateway.contract.framing import eventstream
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate
from tests.helpers.raw_provider import raw_provider

USER = [{"role": "user", "content": "hello"}]
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
CLIENTS = {
    # client and provider: flag of the provider, path, body
    "messages native": ("anthropic_messages", "/v1/messages", {"max_tokens": 9, "messages": USER}),
    "chat to messages": ("anthropic_messages", "/v1/chat/completions", {"messages": USER}),
    "responses to chat": ("openai_chat", "/v1/responses", {"input": "hello"}),
    "chat native": ("openai_chat", "/v1/chat/completions", {"messages": USER}),
    "converse native": ("bedrock_converse", f"/bedrock/model/bedrock_converse%2F{NOVA}/converse", CONVERSE),
    "chat to converse": ("bedrock_converse", "/v1/chat/completions", {"messages": USER}),
    "messages to invoke": ("bedrock_model_invoke", "/v1/messages", {"max_tokens": 9, "messages": USER}),
}
WITH_PINGS = [client for client in CLIENTS if client != "converse native"]
FLAGS = {flag for flag, *_ in CLIENTS.values()}

START = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 0}}}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "he"}}
CHAT = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "he"}}]}


def sse(*events):
    return b"".join(b"event: %s\ndata: %s\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events)


def message(kind, payload):
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return eventstream.encode(headers, json.dumps(payload).encode())


def invoke_event(event):
    """Return an event of Anthropic's format in the form of InvokeModel: base64 in an event-stream message."""
    return message("chunk", {"bytes": b64encode(json.dumps(event).encode()).decode()})


_LENGTHS = struct.pack("!II", 1_000_000, 100)
LONG_FRAME = _LENGTHS + struct.pack("!I", crc32(_LENGTHS))
"""The beginning of an event-stream message whose length field says a million bytes."""
EVENTS = {
    # flag of the provider: content type, first events, and pieces that complete no event: the first, and all others
    "anthropic_messages": ("text/event-stream", sse(START, DELTA), (b": waiting\n\n", b": waiting\n\n")),
    "openai_chat": (
        "text/event-stream",
        b"data: " + json.dumps(CHAT).encode() + b"\n\n",
        (b": waiting\n\n", b": waiting\n\n"),
    ),
    "bedrock_converse": (
        "application/vnd.amazon.eventstream",
        message("messageStart", {"role": "assistant"})
        + message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "he"}}),
        (LONG_FRAME, b"\0"),
    ),
    "bedrock_model_invoke": (
        "application/vnd.amazon.eventstream",
        invoke_event({"type": "message_start", "message": {}}),
        (LONG_FRAME, b"\0"),
    ),
}


def whole(client):
    flag, path, body = CLIENTS[client]
    return path, body if "converse" in path else {"model": f"{flag}/{HAIKU}", **body}


def streamed(client):
    path, body = whole(client)
    return (f"{path}-stream", body) if path.endswith("converse") else (path, {**body, "stream": True})


def head(content_type):
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % content_type.encode()


@asynccontextmanager
async def gated(state, plays, *, calls_in_flight=None, **options):
    """Yield a gateway, and a dict from each compatibility flag to the provider of this flag.

    `plays` is a dict from each flag to a function that writes the replies of its provider.
    """
    own = {"cost_basis": None, "calls_in_flight": calls_in_flight}
    async with AsyncExitStack() as stack:
        peers = {flag: await stack.enter_async_context(raw_provider(plays[flag])) for flag in plays}
        providers = {flag: bedrock(peer.url, flags=[flag], models=[HAIKU, NOVA], **own) for flag, peer in peers.items()}
        yield await stack.enter_async_context(gate(state, providers, **options)), peers


def ends_with_an_error(path, data):
    if "converse" in path:
        return b"Exception" in data
    return b'"error"' in data or b"response.failed" in data
