"""Tests of decoding and encoding messages of AWS event streams, compared with botocore."""

import struct
from itertools import pairwise
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.errors import BadFrame
from gateway.contract.framing import eventstream

names = st.text(min_size=1, max_size=20)
header_sets = st.dictionaries(names, st.text(max_size=40), max_size=5)
HEADERS = {":event-type": "contentBlockDelta", ":content-type": "application/json", ":message-type": "event"}
STREAM = b"".join(eventstream.encode(HEADERS, payload) for payload in (b'{"a":1}', b"", b"x" * 300))


def frames(*chunks):
    decoder = eventstream.Decoder()
    return [frame for chunk in chunks for frame in decoder.feed(chunk)], decoder


@given(header_sets, st.binary(max_size=200))
def test_botocore_reads_what_is_encoded(headers, payload):
    buffer = EventStreamBuffer()
    buffer.add_data(eventstream.encode(headers, payload))
    (message,) = buffer
    assert (message.headers, message.payload) == (headers, payload)


@given(header_sets, st.binary(max_size=200))
def test_what_is_encoded_is_decoded(headers, payload):
    raw = eventstream.encode(headers, payload)
    (frame,) = frames(raw)[0]
    assert (frame.headers, frame.payload, frame.raw) == (headers, payload, raw)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_chunking_gives_the_same_frames(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    output, decoder = frames(*(STREAM[start:end] for start, end in pairwise(edges)))
    assert output == frames(STREAM)[0]
    assert decoder.pending == 0


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_one_changed_byte_is_noticed_or_leaves_the_stream_unfinished(position, change):
    """Check that if any byte of a stream is changed, decoding raises `BadFrame`. All messages that were decoded before
    must be right.
    """
    broken = bytearray(STREAM)
    broken[position] ^= change
    decoder = eventstream.Decoder()
    good = []
    with pytest.raises(BadFrame):
        good.extend(decoder.feed(bytes(broken)))
    assert good == frames(STREAM)[0][: len(good)]


def test_a_length_past_the_limit_is_refused_before_it_is_awaited():
    lengths = struct.pack("!II", eventstream.MAX_MESSAGE + 1, 0)
    with pytest.raises(BadFrame, match="impossible length"):
        frames(lengths + struct.pack("!I", crc32(lengths)))


def test_headers_of_every_type_are_passed_over():
    block = (
        b"\x01a\x00" b"\x01b\x01" b"\x01c\x02\x05" b"\x01d\x03\x00\x05" b"\x01e\x04\x00\x00\x00\x05"
        b"\x01f\x05" + bytes(8) + b"\x01g\x06\x00\x02hi" b"\x01h\x07\x00\x02ok" b"\x01i\x08" + bytes(8)
        + b"\x01j\x09" + bytes(16)
    )  # fmt: skip
    lengths = struct.pack("!II", 16 + len(block), len(block))
    message = lengths + struct.pack("!I", crc32(lengths)) + block
    (frame,) = frames(message + struct.pack("!I", crc32(message)))[0]
    assert frame.headers["h"] == "ok"
    assert len(frame.headers) == 10
