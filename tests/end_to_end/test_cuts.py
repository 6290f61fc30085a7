"""Tests of streams that are cut off anywhere.

The bytes before a cut must give a complete reply or an error. The tests find the end of a complete reply in the bytes,
without the decoders under test.
"""

import os
import re
from dataclasses import replace
from functools import cache

import pytest

from gateway.call.key_redaction import EventRedaction, redaction
from gateway.call.provider_stream import _rest
from gateway.contract.capabilities import capabilities
from gateway.contract.errors import TIMEOUT, BadFrame, Problem, Stalled, Truncated, UpstreamFailed
from gateway.contract.flag import Head, Target
from gateway.testkit import scenarios
from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tokens, Tool
from tests.golden import files
from tests.helpers.conversion import CLAUDE, request_of
from tests.helpers.fold import read_stream
from tests.helpers.own_plugins import discover_own
from tests.helpers.recordings import exchanges, served
from tests.helpers.wires import framed, line, wires

FLAGS = discover_own().flags
DIALECTS = {
    # flag of the provider: dialect of its golden streams
    "openai_chat": "openai_chat",
    "anthropic_messages": "anthropic_messages",
    "bedrock_model_invoke": "anthropic_messages",
    "bedrock_converse": "bedrock_converse",
}
STREAMS = [
    pytest.param(flag, *framed(flag, events)[:1], id=f"{flag}-{case}")
    for flag, dialect in DIALECTS.items()
    for case, (_, events) in files.replies(dialect).items()
    if case != "cut"
]
REPLY = Canned(("Let me see.",), tools=(Tool("a", {"x": 1}),), tokens=Tokens(5, 6))
STREAMS.append(
    pytest.param(
        "openai_responses", framed("openai_responses", rendered("openai_responses", REPLY)[0])[0], id="responses"
    )
)
LAST = {
    "openai_chat": rb'data: \{[^\n]*"choices": ?\[\][^\n]*"usage": ?\{[^\n]*\}(?=\n)',
    "anthropic_messages": rb"event: message_stop\ndata: \{[^\n]*\}",
    "openai_responses": rb"event: response.completed\ndata: \{[^\n]*\}",
}
"""Pattern for the last event of a complete stream, by compatibility flag.

Flags whose streams consist of AWS frames are missing, because such a stream may simply end with its last frame.
"""
ERRORS = {
    "openai_chat": ("",),
    "openai_responses": ("response.failed",),
    "anthropic_messages": ("error",),
    "bedrock_model_invoke": ("internalServerException",),
    "bedrock_converse": ("internalServerException",),
    "gemini_generate_content": ("",),
}
"""The last event that the client gets if a stream breaks, by the client's compatibility flag."""
breaks = pytest.mark.parametrize("broken", [False, True], ids=["closed", "broken"])


def target(flag):
    caps = capabilities(CLAUDE)
    return Target("p", flag, CLAUDE, FLAGS[flag].dialect_for(caps), caps)


@cache
def streamed_request(flag):
    return FLAGS[flag].parse(request_of(FLAGS[flag], {"stream_options": {"include_usage": True}}, stream=True))


def is_error(flag, data, fault=None):
    """Return whether decoding the stream `data` raises an error. If the connection breaks after `data`, it breaks with
    the error `fault`.
    """
    request = streamed_request(flag)
    decoder = FLAGS[flag].decoder(request, target(flag), Head(200, {}))
    events = EventRedaction(redaction("a-key-of-the-provider", "", ()))
    try:
        list(events.feed(data, decoder.feed(data)))
        list(_rest(FLAGS[flag].hooks["decoder.close"], decoder, events, fault))
    except UpstreamFailed:
        return True
    return False


def wrong_cuts(flag, data, whole, *, broken):
    """Cut `data` at many positions, and return the positions with a wrong result.

    A cut before the offset `whole` must give an error, and a later cut must not. If `broken` is true, the connection
    breaks at the cut. All positions near `whole` and every third other position are tried. With IRISGATE_ALL_OFFSETS=1,
    all positions are tried.
    """
    fault = Truncated("broken") if broken else None
    tried = range(1, len(data) + 1)
    if "IRISGATE_ALL_OFFSETS" not in os.environ:
        tried = sorted({*tried[broken::3], *range(max(1, whole - 9), min(len(data), whole + 9) + 1)})
    return [cut for cut in tried if is_error(flag, data[:cut], fault) == (cut >= whole)]


def end_of_whole(flag, data):
    if flag.startswith("bedrock_"):
        return len(data)
    (last,) = re.finditer(LAST[flag], data)
    return last.end()


@breaks
@pytest.mark.parametrize(("flag", "data"), STREAMS)
def test_a_golden_stream_cut_at_any_byte_is_whole_or_an_error(flag, data, broken):
    assert wrong_cuts(flag, data, end_of_whole(flag, data), broken=broken) == []


LATE_FAULTS = [Truncated(), Stalled(Problem(TIMEOUT, "silent")), BadFrame("a line is too long")]


@pytest.mark.parametrize("fault", LATE_FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize(("flag", "data"), STREAMS)
def test_a_fault_of_the_connection_after_the_final_event_is_none(flag, data, fault):
    assert not is_error(flag, data, fault)
    assert is_error(flag, data[: end_of_whole(flag, data) // 2], fault)


@pytest.mark.parametrize("exchange", exchanges("converse-stream", "invoke-with-response-stream", status=200))
def test_a_recorded_stream_cut_at_any_byte_is_an_error(exchange):
    flag = "bedrock_converse" if exchange["path"].endswith("converse-stream") else "bedrock_model_invoke"
    data, _ = served(exchange)
    cuts = range(1, len(data), 1 + len(data) // 2000)
    assert [cut for cut in cuts if not is_error(flag, data[:cut])] == []
    assert not is_error(flag, data)


TEXT = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": null}]}'
STOP = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
DUE = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}], "usage": null}'
COUNTED = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
DONE = b"data: [DONE]"
CHATS = {
    # servers: (lines of the stream, line that makes a closed stream whole, line that makes a broken stream whole)
    "with all": ([DUE, STOP, USAGE, DONE], USAGE, USAGE),
    "without a promise": ([TEXT, STOP, USAGE, DONE], STOP, USAGE),
    "without usage": ([TEXT, STOP, DONE], STOP, DONE),
    "usage with the reason": ([DUE, COUNTED, DONE], COUNTED, DONE),
    "neither usage nor done": ([TEXT, STOP], STOP, None),
    "done alone": ([TEXT, DONE], DONE, DONE),
}
"""Streams of Chat servers, by a description. Most servers leave out something that OpenAI sends.

Some send no usage (Ollama before 0.5), some no [DONE] (ik_llama.cpp#467), and some no finish reason.
"""


@breaks
@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\r\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("server", CHATS)
def test_a_chat_stream_is_whole_when_nothing_is_missing(server, ending, broken):
    lines, closed, cut = CHATS[server]
    data = b"".join(each + ending for each in lines)
    last = cut if broken else closed
    whole = len(data) + 1 if last is None else data.index(last) + len(last)
    assert wrong_cuts("openai_chat", data, whole, broken=broken) == []


@pytest.mark.parametrize("fault", [None, *LATE_FAULTS], ids=lambda fault: type(fault).__name__)
def test_a_complete_chat_stream_without_its_end_gets_one(fault):
    request = streamed_request("openai_chat")
    decoder = FLAGS["openai_chat"].decoder(request, target("openai_chat"), Head(200, {}))
    events = EventRedaction(redaction("a-key-of-the-provider", "", ()))
    list(events.feed(b"", decoder.feed(b"".join(each + b"\n\n" for each in (DUE, STOP, USAGE)))))
    assert [event.raw for event in _rest(FLAGS["openai_chat"].hooks["decoder.close"], decoder, events, fault)] == [
        DONE + b"\n\n"
    ]


@wires()
async def test_a_stream_cut_between_any_events_ends_with_an_error(wire, tmp_path):
    """Check that if a provider's stream is cut off, the client gets an error and no normal end, and the call has one
    record with a cost.

    The gateway and the provider use real connections here.
    """
    events, _ = rendered(wire.upstream, REPLY)
    frames = [framed(wire.provider, [event])[0] for event in events]
    content_type = framed(wire.provider, events)[1]
    missing = 2 if wire.provider == "openai_chat" else 1
    cuts = [sum(map(len, frames[:count])) - back for count in range(1, len(frames) - missing + 2) for back in (0, 9)]
    scripts = [
        replace(scenarios.raw(b"".join(frames)[:cut], content_type), cut_at=cut if broken else None)
        for cut in cuts[:-2]
        for broken in (False, True)
    ]
    async with line(wire, tmp_path) as opened:
        for script in scripts:
            opened.simulated.script(script)
            reply = await opened.post(wire.say.body(wire.say.user(wire.say.text("Hi"))), stream=True)
            if reply.status == 200:
                told = read_stream(reply.body, reply.headers["content-type"])
                assert told[-1][0] in ERRORS[wire.client], told[-1]
            else:
                assert reply.status == 502, reply.body
        records = await opened.gw.calls(len(scripts))
    assert len(records) == len(scripts)
    assert {(record["outcome"], record["error"]) for record in records} == {("failed", "upstream")}
