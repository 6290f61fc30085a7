"""Tests of server-sent events. However the bytes are divided into chunks, the events are the same, and no byte is lost."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.contract.errors import BadFrame
from gateway.contract.flag import Frame
from gateway.contract.framing import sse
from tests.helpers.cpu_time import cpu_units

STREAM = (
    b'event: message_start\ndata: {"a": 1}\n\n'
    b": keep-alive\n\n"
    b"data: one\ndata: two\n\n"
    b"data: \xc3\xa9\r\n\r\n"
    b"id: 7\nretry: 10\ndata:x\n\n"
)


def frames(*chunks):
    decoder = sse.Decoder()
    return [frame for chunk in chunks for frame in decoder.feed(chunk)], decoder


def test_an_event_has_its_name_and_its_data():
    first, comment, lines, accent, last = frames(STREAM)[0]
    assert (first.headers["event"], first.payload) == ("message_start", b'{"a": 1}')
    assert comment.payload == b""
    assert lines.payload == b"one\ntwo"
    assert accent.payload == "é".encode()
    assert last.headers == {"id": "7", "retry": "10"}


def events(output):
    """Return the events of the decoded frames, as pairs (headers, payload). Frames that only separate events are left
    out.
    """
    return [(frame.headers, frame.payload) for frame in output if frame.headers or frame.payload]


def chunked(data, cuts):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_chunking_gives_the_same_events(cuts):
    output, decoder = frames(*chunked(STREAM, cuts))
    assert events(output) == events(frames(STREAM)[0])
    assert decoder.pending == 0


def by_the_specification(data):
    """Read a stream line by line, as the specification describes it, and return its events. An incomplete last event is
    left out.
    """
    output, headers, payload = [], {}, []
    for line in re.findall(rb"([^\r\n]*)(?:\r\n|\n|\r)", data):
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if not line:
            output.append((headers, b"\n".join(payload)))
            headers, payload = {}, []
        elif name == b"data":
            payload.append(value)
        elif name:
            headers[name.decode()] = value.decode()
    return [each for each in output if each != ({}, b"")]


PIECES = [b"data: x", b"data:  y", b"data", b"event: e", b":", b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"]


@example(b"data: x\r\ndata: y\r\n\r\n", [])
@example(b"data: x\n\rdata: y\r\n\rdata: z\r\r", [])
@example(b"data: x\r\n\r\ndata: y\r\n\r\n", [10, 20])
@given(st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join), st.lists(st.integers(0, 100), max_size=12))
def test_lines_may_end_in_all_three_ways_and_be_cut_anywhere(data, cuts):
    output, decoder = frames(*chunked(data, cuts))
    assert events(output) == by_the_specification(data)
    assert b"".join(frame.raw for frame in output) == data[: len(data) - decoder.pending]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_goes_out_with_its_blank_line_and_waits_for_no_other(end):
    (frame,), decoder = frames(b"data: x" + end + end)
    assert (frame.payload, decoder.pending) == (b"x", 0)


def test_a_line_feed_cut_from_its_blank_line_ends_no_frame():
    """Check that if a CR LF is split between two chunks, its LF is passed on and does not end another frame."""
    first, half, second = frames(b"data: x\r\n\r", b"\n", b"data: y\n\n")[0]
    assert (first.payload, half, second.payload) == (b"x", Frame({}, b"", b"\n"), b"y")


@pytest.mark.parametrize(("line", "payload"), [(b"data:x", b"x"), (b"data: x", b"x"), (b"data:  x", b" x")])
def test_one_space_behind_the_colon_is_no_part_of_the_data(line, payload):
    assert frames(line + b"\n\n")[0][0].payload == payload


@given(st.integers(0, len(STREAM)))
def test_the_frames_and_what_is_pending_are_all_the_bytes(cut):
    output, decoder = frames(STREAM[:cut])
    assert len(b"".join(frame.raw for frame in output)) + decoder.pending == cut


def test_an_event_without_an_end_is_refused_at_the_limit(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    with pytest.raises(BadFrame, match="more than 100 bytes"):
        frames(b"data: " + b"x" * 101)


def test_what_is_encoded_is_decoded():
    (frame,) = frames(sse.encode(b'{"a":1}', "ping"))[0]
    assert (frame.headers, frame.payload) == ({"event": "ping"}, b'{"a":1}')


def test_a_line_that_comes_in_many_reads_is_copied_once():
    data = b"x" * 4096
    assert cpu_units(lambda: frames(b"data: ", *[data] * 4096, b"\n\n"), enough=400) < 400
    output, decoder = frames(b"data: ", *[data] * 4096, b"\n\n")
    assert len(output[0].payload) == 4096 * 4096
    assert decoder.pending == 0
