"""Tests of the parser of PROXY protocol headers, which may arrive complete or in pieces."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.identity.proxy_header import LONGEST, SIGNATURE, BadProxyHeader, ProxyHeader, read

REST = b"GET / HTTP/1.1\r\n"
FOUR = struct.pack("!4s4sHH", bytes([100, 64, 0, 7]), bytes([127, 0, 0, 1]), 4711, 80)
SIX = struct.pack("!16s16sHH", bytes.fromhex("fd7a115ca1e0") + bytes(9) + b"\7", bytes(15) + b"\1", 4711, 80)


def binary(addresses, command=0x21, family=0x11, length=None):
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses) if length is None else length) + addresses


GOOD = {
    b"PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\r\n": ("100.64.0.7", 4711),
    b"PROXY TCP6 fd7a:115c:a1e0::7 ::1 4711 80\r\n": ("fd7a:115c:a1e0::7", 4711),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n": None,
    binary(FOUR): ("100.64.0.7", 4711),
    binary(SIX, family=0x21): ("fd7a:115c:a1e0::7", 4711),
    binary(FOUR + b"\x04\x00\x03abc"): ("100.64.0.7", 4711),
    binary(b"", command=0x20, family=0): None,
    binary(FOUR, command=0x20): None,
    binary(bytes(216), family=0x31): None,
    binary(FOUR, family=0x12): None,
}


@pytest.mark.parametrize("header", GOOD)
def test_a_header_names_the_caller_and_its_own_length(header):
    assert read(header + REST) == ProxyHeader(GOOD[header], len(header))


@given(st.sampled_from(list(GOOD)), st.data())
def test_a_header_that_is_not_whole_waits_for_its_rest(header, data):
    assert read(header[: data.draw(st.integers(0, len(header) - 1))]) is None


@pytest.mark.parametrize(
    "data",
    [
        REST,
        b"\x16\x03\x01",
        b"PROXY TCP4 100.64.0.7 127.0.0.1 4711\r\n",
        b"PROXY TCP4 100.64.0.7 127.0.0.1 4711 80\n",
        b"PROXY TCP4 fd7a::7 ::1 4711 80\r\n",
        b"PROXY TCP6 100.64.0.7 127.0.0.1 4711 80\r\n",
        b"PROXY TCP4 100.64.0.7.8 127.0.0.1 4711 80\r\n",
        b"PROXY TCP4 \xff\xfe 127.0.0.1 4711 80\r\n",
        b"PROXY TCP4 100.64.0.7 127.0.0.1 65536 80\r\n",
        b"PROXY TCP4  100.64.0.7 127.0.0.1 4711 80\r\n",
        b"proxy TCP4 100.64.0.7 127.0.0.1 4711 80\r\n",
        b"PROXY UDP4 100.64.0.7 127.0.0.1 4711 80\r\n",
        b"PROXY " + b"x" * 200,
        binary(FOUR, command=0x11),
        binary(FOUR, command=0x22),
        binary(FOUR[:8]),
        binary(FOUR, family=0x21),
        binary(FOUR, length=LONGEST),
    ],
)
def test_what_is_no_header_is_refused(data):
    with pytest.raises(BadProxyHeader):
        read(data)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else(data):
    for start in (b"", b"PROXY ", SIGNATURE):
        try:
            header = read(start + data)
        except BadProxyHeader:
            continue
        assert header is None or header.length <= len(start + data)


def line_of(size):
    """Return a PROXY header of version 1 with this number of bytes, including the line's end."""
    start, end = b"PROXY UNKNOWN ", b"\r\n"
    return start + b"x" * (size - len(start) - len(end)) + end


def test_the_longest_line_of_version_1_has_107_bytes_its_end_included():
    assert read(line_of(107)) == ProxyHeader(None, 107)
    assert read(line_of(107)[:106]) is None
    for data in (line_of(108), line_of(108)[:107]):
        with pytest.raises(BadProxyHeader, match="does not end"):
            read(data)


def test_the_longest_header_of_version_2_is_taken_and_no_longer_one():
    longest = binary(FOUR + bytes(LONGEST - 16 - len(FOUR)))
    assert read(longest) == ProxyHeader(("100.64.0.7", 4711), LONGEST)
    with pytest.raises(BadProxyHeader, match="length"):
        read(binary(FOUR + bytes(LONGEST - 15 - len(FOUR)))[:16])
