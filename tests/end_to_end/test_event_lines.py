"""Tests of Messages streams without `event:` lines, and of frames after the end of a stream, over sockets.

Sources: openclaw/openclaw#37571, earendil-works/pi#1983 (the event line is optional in the standard).
"""

import json

import pytest

from gateway.contract.framing import sse
from gateway.testkit import scenarios
from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tokens
from tests.helpers.fold import fold, read_stream
from tests.helpers.wires import framed, line, wires

EVENTS = [
    {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [],
     "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 7000, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ok"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 300}},
    {"type": "message_stop"},
]  # fmt: skip


@wires(providers=["anthropic_messages"])
@pytest.mark.parametrize("name", ["", "message"])
async def test_a_messages_stream_without_event_lines_is_whole_and_counted(wire, name, tmp_path):
    data = b"".join(sse.encode(json.dumps(event).encode(), name) for event in EVENTS)
    async with line(wire, tmp_path) as opened:
        opened.simulated.script(scenarios.raw(data, "text/event-stream"))
        reply = await opened.post(wire.say.body(wire.say.user(wire.say.text("x"))), stream=True)
        assert reply.status == 200
        events = read_stream(reply.body, reply.headers["content-type"])
        assert "error" not in {kind for kind, _ in events}
        (record,) = await opened.gw.calls()
    if wire.client == "anthropic_messages":  # SDKs read the type of an event from its event line
        frames = list(sse.Decoder().feed(reply.body))
        assert [frame.headers.get("event") for frame in frames] == [event["type"] for event in EVENTS]
    else:
        fold(wire.say.dialect, [pair for pair in events if pair[0] != ""] or events)
    tokens = record["tokens"]
    assert (record["outcome"], tokens["input"], tokens["output"], record["stop"]) == ("ok", 7000, 300, "end_turn")


REPLY = Canned(("Hi",), tokens=Tokens(7, 5))


@wires()
async def test_what_a_provider_sends_after_the_end_reaches_nobody(wire, tmp_path):
    """Check that anything after the end of a reply is ignored: a second reply, an error, or half a frame."""
    events, _ = rendered(wire.upstream, REPLY)
    data, content_type = framed(wire.provider, events)
    if wire.provider == "openai_chat":
        data += b"data: [DONE]\n\n"
    replies = []
    async with line(wire, tmp_path) as opened:
        for late in (b"", data, data[: len(data) // 2], b"\x00\x01 nonsense \n\n"):
            opened.simulated.script(scenarios.raw(data + late, content_type))
            reply = await opened.post(wire.say.body(wire.say.user(wire.say.text("x"))), stream=True)
            told = read_stream(reply.body, reply.headers["content-type"])
            replies.append(wire.say.read_reply(fold(wire.say.dialect, told)))
        records = await opened.gw.calls(len(replies))
    assert all(reply == replies[0] for reply in replies)
    assert [record["outcome"] for record in records] == ["ok"] * len(replies)
