"""Tests of what may surround server-sent events: line ends, blanks, byte order marks and the end of the stream.

The results are compared with those of a simple reader, which reads lines as the standard describes it (WHATWG HTML,
9.2.6).
"""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.errors import Truncated
from gateway.contract.flag import Head
from gateway.contract.framing import sse
from tests.helpers.conversion import CONVERSIONS, request_of
from tests.helpers.own_plugins import discover_own

FLAGS = discover_own().flags


def by_lines(data):
    """Read a stream line by line, as the standard describes it. Return each event as (event, data)."""
    events, name, payload = [], b"", []
    for each in re.split(rb"\r\n|\n|\r", data.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        if not each:
            if payload:
                events.append((name, b"\n".join(payload)))
            name, payload = b"", []
            continue
        field, _, value = each.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            payload.append(value)
        elif field == b"event":
            name = value
    return events


def by_frames(data, cuts):
    decoder = sse.Decoder()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pairs = pairwise(places)
    frames = [frame for start, end in pairs for frame in decoder.feed(data[start:end])]
    assert b"".join(frame.raw for frame in frames) + data[len(data) - decoder.pending :] == data
    return [(frame.headers.get("event", "").encode(), frame.payload) for frame in frames if frame.payload]


_line = st.sampled_from([
    b"data: {}", b"data:{}", b"data:  {}", b"data: a", b"event: e", b"event:e", b": comment", b"id: 1", b"retry: 5",
    b"foo: bar", "data: ü😀".encode(), b"data",
])  # fmt: skip
_lines = st.lists(st.tuples(st.lists(_line, min_size=1, max_size=3), st.integers(0, 2)), max_size=4)


@given(_lines, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_any_stream_in_any_reads_is_read_as_by_lines(events, ending, cuts, mark):
    data = b"\xef\xbb\xbf" if mark else b""
    for lines, more in events:
        data += b"".join(each + ending for each in lines) + ending * (1 + more)
    assert by_frames(data, cuts) == [(name, payload) for name, payload in by_lines(data) if payload]


@given(st.lists(st.sampled_from([b"data: {}", b"event: e", b": c", b""]), max_size=12), st.data())
def test_line_ends_of_all_kinds_may_be_mixed(lines, data):
    text = b"".join(each + data.draw(st.sampled_from([b"\n", b"\r\n"])) for each in lines) + b"\n\n"
    cuts = data.draw(st.lists(st.integers(0, 200), max_size=6))
    assert by_frames(text, cuts) == [(name, payload) for name, payload in by_lines(text) if payload]


def decoder_of(name):
    flag = FLAGS[name]
    request = flag.parse(request_of(flag, {"stream_options": {"include_usage": True}}, stream=True))
    target = (
        next(each for each in CONVERSIONS.values() if each.provider.name == name).target()
        if name != "openai_responses"
        else None
    )
    return flag.decoder(request, target, Head(200, {}))


CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}'
ENDS = {
    # last bytes of a stream without its blank line: whether the reply is whole
    "openai_chat": [
        (CHUNK + b"\n\ndata: [DONE]", True), (CHUNK + b"\n\ndata:[DONE]\n", True), (CHUNK + b"\n\ndata:  [DONE] \r\n", True),
        (CHUNK + b'\n\ndata: "[DONE]"', True), (CHUNK + b"\n\ndata: [done]\n\n", True), (CHUNK + b"\n\ndata: DONE\n\n", True),
        (CHUNK, True), (CHUNK[:-1], False), (CHUNK + b"\n", True), (CHUNK + b"\r", True), (b"data: [DON", False),
        (b": OPENROUTER PROCESSING\n\n" + CHUNK + b"\n", True), (b"\xef\xbb\xbf" + CHUNK, True),
        (CHUNK.replace(b"data: ", b"data:"), True), (CHUNK.replace(b"data: ", b"data:   "), True),
        (CHUNK.replace(b' "finish', b'\ndata: "finish'), True),
    ],
    "anthropic_messages": [
        (b'event: message_stop\ndata: {"type": "message_stop"}', True), (b'data: {"type": "message_stop"}\n', True),
        (b'event: message_stop\ndata: {"type": "message_stop"', False), (b"event: message_stop\n", False),
        (b'data: {"type": "message_stop"}\nevent: message_stop', True),
        (b'data: {"type": "message_stop"}\nevent: message_st', True),
    ],
    "openai_responses": [
        (b'data: {"type": "response.completed", "response": {}}', True),
        (b'event: response.completed\ndata: {"type": "response.completed", "response": {}', False),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "is_whole"), [(name, *case) for name, cases in ENDS.items() for case in cases]
)
def test_the_last_event_may_lack_its_blank_line(name, data, is_whole):
    """Check a stream whose last event has no blank line after it. The event is read if it is complete, and the client
    gets the blank line.

    If the event is incomplete, `Truncated` is raised.
    """
    decoder = decoder_of(name)
    events = list(decoder.feed(data))
    if not is_whole:
        with pytest.raises(Truncated):
            list(decoder.close())
        return
    events += decoder.close()
    encoder = FLAGS[name].encoder(FLAGS[name].parse(request_of(FLAGS[name], {}, stream=True)))
    seen = b"".join(encoder.feed(event) if event.raw is None else event.raw for event in events)
    assert re.search(rb"(\r\n|\n|\r)(\r\n|\n|\r)$", seen)


LATE = {
    "openai_chat": b'data: {"error": {"message": "late"}}\n\n',
    "anthropic_messages": b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "late"}}\n\n',
    "openai_responses": b'data: {"type": "error", "message": "late"}\n\n',
}


@pytest.mark.parametrize("name", LATE)
def test_what_follows_the_end_neither_fails_nor_reaches_the_client(name):
    end = {"openai_chat": CHUNK + b"\n\ndata: [DONE]", "anthropic_messages": b'data: {"type": "message_stop"}'}.get(
        name, b'data: {"type": "response.completed", "response": {}}'
    )
    decoder = decoder_of(name)
    list(decoder.feed(end + b"\n\n"))
    assert decoder.done
    late = [*decoder.feed(LATE[name] + json.dumps({"a": 1}).encode() + b"\n\ndata: {"), *decoder.close()]
    assert b"".join(event.raw for event in late) == b""
