"""The outcome of a call as the client of a flag sees it: a right reply, or an error in the client's dialect."""

from __future__ import annotations

import json
from contextlib import suppress

from gateway.contract.framing import sse
from tests.helpers.fold import fold, read_stream

OWN_NAMES = {
    "id", "item_id", "call_id", "toolUseId", "model", "created", "created_at", "completed_at", "latencyMs", "p",
    "amazon-bedrock-invocationMetrics",
}  # fmt: skip
"""Members that differ between two equal replies: ids, times, padding, and the name by which a model was called."""
_ENDS = {
    "openai_chat": (),
    "openai_responses": ("response.completed", "response.incomplete"),
    "anthropic_messages": ("message_stop",),
    "bedrock_model_invoke": ("message_stop",),
    "bedrock_converse": ("metadata",),
}
"""The last event of a complete stream, by the client's flag. A stream of Chat ends with `[DONE]`."""


def error_message(client, body):
    """Return the message of an error as the client's SDK reads it."""
    error = json.loads(body)
    if client.startswith("bedrock_"):
        return error["message"]
    if client == "anthropic_messages":
        assert error["type"] == "error"
    return error["error"]["message"]


def events_of(reply):
    """Return the events of a stream without the members that differ between two equal replies."""
    return [(kind, without_own(data)) for kind, data in read_stream(reply.body, reply.headers["content-type"])]


def damaged_events_of(reply):
    """Return the events of a stream of which some may be damaged; a damaged event has no members."""
    if "eventstream" in reply.headers["content-type"]:
        return events_of(reply)
    return [_damaged_event(frame.payload) for frame in sse.Decoder().feed(reply.body) if frame.payload]


def _damaged_event(payload):
    if payload == b"[DONE]":
        return "", None
    try:
        data = json.loads(payload)
    except ValueError:
        return "", {}
    return (data.get("type", ""), data) if isinstance(data, dict) else ("", {})


def without_own(value):
    match value:
        case dict():
            return {name: without_own(each) for name, each in value.items() if name not in OWN_NAMES}
        case list():
            return [without_own(each) for each in value]
    return value


def is_error(client, event):
    """Return whether an event of a stream tells the client of an error."""
    kind, data = event
    if client == "openai_chat":
        return bool(data) and "error" in data
    return kind == ("response.failed" if client == "openai_responses" else "error") or kind.endswith("Exception")


def is_end(client, event):
    """Return whether an event of a stream is the last one of a complete reply."""
    kind, data = event
    if client == "openai_chat":
        return data is None
    return kind in _ENDS[client]


def terminal_events(client, events):
    return [event for event in events if is_error(client, event) or is_end(client, event)]


def is_right(say, reply, *, stream, right=None, native=False):
    """Return whether a reply is right; False for an error. Fails for anything that is neither.

    `right` is the right reply, where the provider's bytes are known to be right as far as they come. To a client of the
    provider's own format (`native`), damaged events and the provider's own errors pass unchanged.
    """
    if reply.status >= 400:
        assert native or error_message(say.flag, reply.body)
        return False
    if not stream:
        content = say.read_reply(json.loads(reply.body)).without_ids()
        assert right is None or content == say.read_reply(json.loads(right.body)).without_ids()
        return True
    if native and right is None:
        return not _is_damaged_error(say.flag, damaged_events_of(reply))
    events = events_of(reply)
    failed = is_error(say.flag, events[-1])
    assert terminal_events(say.flag, events) == events[-1:], "a stream has one terminal event, its last"
    if right is None:
        if not failed:
            with suppress(json.JSONDecodeError):  # a part of a tool call's input may be lost
                fold(say.dialect, read_stream(reply.body, reply.headers["content-type"]))
        return not failed
    passed = [event for event in events if not is_error(say.flag, event) and event[0] != "error"]
    expected = events_of(right)
    assert passed == (expected[: len(passed)] if failed else expected)
    return not failed


def _is_damaged_error(client, events):
    """Return whether a stream with damaged events ends with an error. At most one event ends it, and it is the last."""
    ends = terminal_events(client, events)
    assert ends in ([], events[-1:])
    return bool(ends) and is_error(client, ends[0])
