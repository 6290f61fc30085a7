"""Server-sent events: any chunking gives the same frames, and no byte is lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.errors import BadFrame
from gateway.contract.framing import sse
from tests.helpers.cpu_time import cpu_seconds

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


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_chunking_gives_the_same_frames(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(edges)]
    found, decoder = frames(*chunks)
    assert found == frames(STREAM)[0]
    assert decoder.pending == 0


@given(st.integers(0, len(STREAM)))
def test_the_frames_and_what_is_pending_are_all_the_bytes(cut):
    found, decoder = frames(STREAM[:cut])
    assert len(b"".join(frame.raw for frame in found)) + decoder.pending == cut


def test_an_event_without_an_end_is_refused_at_the_limit(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    with pytest.raises(BadFrame, match="more than 100 bytes"):
        frames(b"data: " + b"x" * 101)


def test_what_is_encoded_is_decoded():
    (frame,) = frames(sse.encode(b'{"a":1}', "ping"))[0]
    assert (frame.headers, frame.payload) == ({"event": "ping"}, b'{"a":1}')


def test_a_line_that_comes_in_many_reads_is_copied_once():
    data = b"x" * 4096
    assert cpu_seconds(lambda: frames(b"data: ", *[data] * 4096, b"\n\n")) < 1
    found, decoder = frames(b"data: ", *[data] * 4096, b"\n\n")
    assert len(found[0].payload) == 4096 * 4096
    assert decoder.pending == 0
