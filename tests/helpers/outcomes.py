"""The outcome of a call as a client sees it: a correct reply, or an error in the client's dialect."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial

from botocore.eventstream import EventStreamBuffer

from gateway.contract.framing import sse
from tests.helpers.fold import fold, framed_event, read_stream, typed_event

OWN_NAMES = {
    "id", "item_id", "call_id", "toolUseId", "responseId", "modelVersion", "model", "created", "created_at", "completed_at", "latencyMs", "p",
    "amazon-bedrock-invocationMetrics",
}  # fmt: skip
"""Fields that may differ between two equal replies: ids, times, padding, and the name of the model."""
_ENDS = {
    "openai_responses": ("response.completed", "response.incomplete"),
    "anthropic_messages": ("message_stop",),
    "bedrock_model_invoke": ("message_stop",),
    "bedrock_converse": ("metadata",),
}
"""Types of the event that ends a complete stream, by the client's compatibility flag.

Chat and Gemini are missing here. A Chat stream ends with `[DONE]`, and a Gemini stream with a finish reason.
"""


def error_message(client, body):
    """Return the message of an error, read as the client's SDK reads it."""
    error = json.loads(body)
    if client.startswith("bedrock_"):
        return error["message"]
    if client == "anthropic_messages":
        assert error["type"] == "error"
    return error["error"]["message"]


def events_of(reply):
    """Return the events of a stream, without the fields that may differ between two equal replies (`OWN_NAMES`)."""
    return [(kind, without_own(data)) for kind, data in read_stream(reply.body, reply.headers["content-type"])]


def damaged_events_of(reply):
    """Return the events of a stream that may have damaged events. A damaged event is returned without fields."""
    if "eventstream" in reply.headers["content-type"]:
        buffer = EventStreamBuffer()
        buffer.add_data(reply.body)
        readers = [partial(framed_event, message) for message in buffer]
    else:
        readers = [partial(_sse_event, frame.payload) for frame in sse.Decoder().feed(reply.body) if frame.payload]
    return [_undamaged(reader) for reader in readers]


def _sse_event(payload):
    return typed_event(payload) if payload[:1] == b"{" or payload == b"[DONE]" else ("", {})


def _undamaged(reader):
    try:
        kind, data = reader()
    except ValueError:
        return "", {}
    return (kind, without_own(data)) if isinstance(kind, str) else ("", {})


def without_own(value):
    match value:
        case dict():
            return {name: without_own(each) for name, each in value.items() if name not in OWN_NAMES}
        case list():
            return [without_own(each) for each in value]
    return value


def is_error(client, event):
    """Return whether an event of a stream reports an error to the client."""
    kind, data = event
    if client in {"openai_chat", "gemini_generate_content"}:
        return bool(data) and "error" in data
    return kind == ("response.failed" if client == "openai_responses" else "error") or kind.endswith("Exception")


def is_end(client, event):
    """Return whether an event is the last one of a complete reply."""
    kind, data = event
    if client == "openai_chat":
        return data is None
    if client == "gemini_generate_content":
        return any("finishReason" in candidate for candidate in data.get("candidates", ()))
    return kind in _ENDS[client]


def terminal_events(client, events):
    return [event for event in events if is_error(client, event) or is_end(client, event)]


def is_right(wire, reply, *, stream, right=None):
    """Return True for a correct reply, and False for an error. Fail for anything else.

    `right` is the correct reply, with which `reply` is compared. It is None if the provider's bytes may be damaged. If
    the client speaks the provider's dialect, damaged fields and events may then reach the client unchanged.

    If the client and the provider have the same compatibility flag, the provider's errors reach the client unchanged.
    """
    if reply.status >= 400:
        assert wire.client == wire.provider or error_message(wire.client, reply.body)
        return False
    passes = right is None and wire.upstream == wire.say.dialect
    if not stream:
        body = json.loads(reply.body)
        assert isinstance(body, dict)
        assert right is None or content_of(wire, body) == content_of(wire, json.loads(right.body))
        return True
    if passes:
        return not _is_damaged_error(wire.client, damaged_events_of(reply))
    events = events_of(reply)
    failed = is_error(wire.client, events[-1])
    assert terminal_events(wire.client, events) == events[-1:], "a stream has one terminal event, its last"
    if right is None:
        if not failed:
            with suppress(json.JSONDecodeError):  # a part of a tool call's input may be lost
                fold(wire.say.dialect, read_stream(reply.body, reply.headers["content-type"]))
        return not failed
    passed = [event for event in events if not is_error(wire.client, event) and event[0] != "error"]
    expected = events_of(right)
    assert passed == (expected[: len(passed)] if failed else expected)
    return not failed


def content_of(wire, body):
    return wire.say.read_reply(body).without_ids()


def _is_damaged_error(client, events):
    """Return whether a stream with damaged events ends with an error. Check that no event before the last one ends the
    stream.
    """
    ends = terminal_events(client, events)
    assert ends in ([], events[-1:])
    return bool(ends) and is_error(client, ends[0])
