"""Providers' replies that take long to parse, because one value or list is repeated until the reply has a given size.

Every kind exists for every dialect, as an unstreamed reply and as one event of a stream.
"""

import base64
import json
from itertools import chain

from gateway.contract.framing import eventstream, sse

DIALECTS = ("bedrock_converse", "bedrock_model_invoke", "anthropic_messages", "openai_chat", "openai_responses")


def packed(value):
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def many(item, size):
    data = packed(item)
    return b"[" + b",".join([data] * (size // (len(data) + 1))) + b"]"


def text(unit, size):
    return b'"' + unit * (size // len(unit)) + b'"'


def joined(**members):
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), packed(value)) for name, value in members.items()) + b"}"


BLOCKS = {
    # an item of the reply's list of content, and one that calls a tool
    "bedrock_converse": ({"text": "x"}, {"toolUse": {"toolUseId": "t", "name": "a", "input": {}}}),
    "bedrock_model_invoke": (
        {"type": "text", "text": "x"},
        {"type": "tool_use", "id": "t", "name": "a", "input": {}},
    ),
    "openai_chat": (
        {"message": {"role": "assistant", "content": "x"}},
        {"id": "t", "type": "function", "function": {"name": "a", "arguments": "{}"}},
    ),
    "openai_responses": (
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
        {"type": "function_call", "call_id": "t", "name": "a", "arguments": "{}"},
    ),
}
BLOCKS["anthropic_messages"] = BLOCKS["bedrock_model_invoke"]


def whole(dialect, *, content=None, said=b'"Hi"', calls=None, **more):
    """Return an unstreamed reply with a single text.

    `said` is the JSON of the text. `content` or `calls` is the JSON of a list that takes the place of the text.
    """
    if dialect == "openai_chat":
        message = joined(role="assistant", content=said, **({"tool_calls": calls} if calls else {}))
        choices = content or b'[{"index":0,"finish_reason":"stop","message":%b}]' % message
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        return joined(id="c", object="chat.completion", created=1, model="m", choices=choices, usage=usage, **more)
    if dialect == "openai_responses":
        message = b'{"type":"message","id":"m","status":"completed","role":"assistant","content":'
        message += b'[{"type":"output_text","annotations":[],"text":%b}]}' % said
        output, usage = content or calls or b"[%b]" % message, {"input_tokens": 1, "output_tokens": 1}
        begin = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
        return joined(**begin, output=output, usage=usage, **more)
    if dialect == "bedrock_converse":
        message = joined(role="assistant", content=content or calls or b'[{"text":%b}]' % said)
        usage = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
        return joined(output=joined(message=message), stopReason="end_turn", usage=usage, **more)
    content = content or calls or b'[{"type":"text","text":%b}]' % said
    begin = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    return joined(**begin, stop_sequence=None, content=content, usage={"input_tokens": 1, "output_tokens": 2}, **more)


def wholes(dialect, size):
    """Yield pairs of a name and an unstreamed reply of about `size` bytes."""
    block, call = BLOCKS[dialect]
    yield "one text", whole(dialect, said=text(b"x", size))
    yield "line ends", whole(dialect, said=text(rb"\n", size))
    yield "halves of characters", whole(dialect, said=text(rb"\ud83d", size))
    yield "blocks", whole(dialect, content=many(block, size))
    yield "calls", whole(dialect, calls=many(call, size))
    yield "numbers", whole(dialect, content=many(1, size))
    yield "objects", whole(dialect, content=many({}, size))
    yield "an unknown member", whole(dialect, unknown=many(1, size))
    yield "an error", joined(error=joined(message="m", x=many(1, size)))
    yield "no JSON", b"<" * size
    yield "broken JSON", b'{"x":' + many(1, size)


def framed(dialect, kind, payload):
    """Return the frame of one event."""
    if dialect == "bedrock_converse":
        names = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
        return eventstream.encode(names, payload)
    if dialect == "bedrock_model_invoke":
        names = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
        return eventstream.encode(names, b'{"bytes":"%b"}' % base64.b64encode(payload))
    return sse.encode(payload, "" if dialect == "openai_chat" else kind)


def _messages(kind, **members):
    return kind, joined(type=kind, **members)


def _chat(delta=b"{}", **more):
    choice = b'{"index":0,"delta":%b,"finish_reason":null}' % delta
    return "", joined(id="c", object="chat.completion.chunk", created=1, model="m", **{"choices": [1], **more}).replace(
        b'"choices":[1]', b'"choices":[%b]' % choice
    )


EDGES = {
    # events before and after the hostile event
    "bedrock_converse": (
        [("messageStart", b'{"role":"assistant"}')],
        [
            ("contentBlockStop", b'{"contentBlockIndex":0}'),
            ("messageStop", b'{"stopReason":"end_turn"}'),
            ("metadata", b'{"usage":{"inputTokens":1,"outputTokens":2,"totalTokens":3},"metrics":{"latencyMs":1}}'),
        ],
    ),
    "anthropic_messages": (
        [_messages("message_start", message={"id": "m", "model": "m", "usage": {"input_tokens": 1}, "content": []})],
        [
            _messages("content_block_stop", index=0),
            _messages("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
            _messages("message_stop"),
        ],
    ),
    "openai_chat": (
        [_chat(b'{"role":"assistant"}')],
        [
            ("", b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'),
            ("", b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'),
            ("", b"[DONE]"),
        ],
    ),
    "openai_responses": (
        [_messages("response.created", response={"id": "r", "output": []})],
        [_messages("response.completed", response={"id": "r", "output": [], "usage": {"output_tokens": 2}})],
    ),
}
EDGES["bedrock_model_invoke"] = EDGES["anthropic_messages"]


def _text_event(dialect, said):
    if dialect == "bedrock_converse":
        return "contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":%b}}' % said
    if dialect == "openai_chat":
        return _chat(b'{"content":%b}' % said)
    if dialect == "openai_responses":
        return _messages("response.output_text.delta", output_index=0, content_index=0, item_id="m", delta=said)
    return _messages("content_block_delta", index=0, delta=b'{"type":"text_delta","text":%b}' % said)


def _structured_events(dialect, items):
    """Yield events of the dialect. In each, a list of arbitrary items takes the place of one object or list."""
    if dialect == "bedrock_converse":
        yield "contentBlockStart", b'{"contentBlockIndex":0,"start":%b}' % items
        yield "contentBlockDelta", b'{"contentBlockIndex":0,"delta":%b}' % items
        yield "metadata", b'{"usage":{"inputTokens":1,"cacheDetails":%b},"metrics":%b}' % (items, b"{}")
    elif dialect == "openai_chat":
        yield "", b'{"id":"c","object":"chat.completion.chunk","choices":%b,"usage":null,"finish_reason":0}' % items
        yield _chat(b'{"content":%b}' % items)
        yield _chat(b'{"tool_calls":%b}' % items)
    elif dialect == "openai_responses":
        yield (
            _messages("response.output_item.done", output_index=0, item={"type": "message", "content": [1]})[0],
            (b'{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":%b}}' % items),
        )
        yield "response.completed", b'{"type":"response.completed","response":{"id":"r","output":%b}}' % items
    else:
        yield _messages("content_block_start", index=0, content_block=items)
        yield _messages("content_block_delta", index=0, delta=items)
        yield _messages("message_delta", delta={}, usage=joined(iterations=items))


def _stream(dialect, *events):
    before, after = EDGES[dialect]
    return b"".join(framed(dialect, *one) for one in chain(before, events, after))


def streams(dialect, size):
    """Yield pairs of a name and a stream, which has one event of about `size` bytes or many events with that total
    size.
    """
    call = BLOCKS[dialect][1]
    for name, unit in (("one text", b"x"), ("line ends", rb"\n"), ("halves of characters", rb"\ud83d")):
        yield name, _stream(dialect, _text_event(dialect, text(unit, size)))
    for name, item in (("numbers", 1), ("objects", {}), ("calls", call)):
        for place, event in enumerate(_structured_events(dialect, many(item, size))):
            yield f"{name} in place {place}", _stream(dialect, event)
    tiny = framed(dialect, *_text_event(dialect, b'"x"'))
    yield "tiny events", _stream(dialect) + tiny * (size // len(tiny))
    if "bedrock" not in dialect:
        yield "lines", b"data\n" * (size // 5) + b"\n" + _stream(dialect)
        yield "lines of one payload", b"data:\n" * (size // 6) + b"\n" + _stream(dialect)
        yield "bytes that are no text", b"\xff" * size + b"\n\n" + _stream(dialect)
        yield "events without a payload", b":\n\n" * (size // 3) + _stream(dialect)
