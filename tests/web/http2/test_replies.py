"""Tests of the parser that reads the gateway's own HTTP/1.1 replies, which are then sent in HTTP/2."""

import pytest

from gateway.web.http2.replies import BadReply, ReplyHead, ReplyParser

OK = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n"
LENGTH = OK + b"Content-Length: 5\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def parsed(data, method=b"GET", size=None):
    """Parse an HTTP/1.1 reply that arrives in pieces of `size` bytes. Return the heads, the body, and whether the reply
    is complete.
    """
    parser, heads, body = ReplyParser(method), [], b""
    for start in range(0, len(data), size or len(data)):
        for part in parser.feed(data[start : start + (size or len(data))]):
            if isinstance(part, ReplyHead):
                heads.append(part)
            else:
                body += part
    return heads, body, parser.is_complete


@pytest.mark.parametrize("size", [None, 1, 2, 3, 7])
@pytest.mark.parametrize(
    ("data", "closes"), [(LENGTH + b"hello", False), (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", True)]
)
def test_a_reply_is_read_in_any_pieces(data, closes, size):
    (head,), body, is_complete = parsed(data, size=size)
    assert (head.status, head.ends, head.closes, body, is_complete) == (200, False, closes, b"hello", True)
    names = [name for name, _ in head.headers]
    assert names == [b":status", b"content-type"] + ([] if closes else [b"content-length"])


@pytest.mark.parametrize(
    ("data", "method"),
    [
        (LENGTH, b"HEAD"),
        (CHUNKED, b"HEAD"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET"),
    ],
)
def test_a_reply_without_a_body_ends_with_its_head(data, method):
    (head,), body, is_complete = parsed(data, method)
    assert (head.ends, body, is_complete) == (True, b"", True)


def test_an_interim_reply_comes_before_the_final_one():
    heads, body, is_complete = parsed(b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH + b"hello")
    assert [(head.status, head.ends) for head in heads] == [(100, False), (200, False)]
    assert (body, is_complete) == (b"hello", True)


@pytest.mark.parametrize("cut", range(1, len(CHUNKED) + 17))
def test_a_cut_reply_is_not_complete(cut):
    data = CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    assert not parsed(data[:cut])[2]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        LENGTH + b"hello, you",
        CHUNKED + b"2\r\nhello",
        CHUNKED + b"xyz\r\n",
        CHUNKED + b"0" * 100,
        CHUNKED + b"0\r\nx-trailer: 1\r\n\r\n",
    ],
)
def test_a_reply_that_cannot_be_carried_is_an_error(data):
    with pytest.raises(BadReply):
        parsed(data)
