"""Tests of replies that the gateway writes as bytes itself, without aiohttp's response classes."""

from email.utils import parsedate_to_datetime
from time import time

import pytest

from gateway.call.reply import Reply, encoded
from gateway.call.server import as_response

JSON = {"content-type": "application/json", "x-request-id": "req_1"}


def parts(data):
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = (line.split(": ", 1) for line in lines)
    return status, {name.lower(): value for name, value in headers}, body


def test_a_reply_has_its_headers_its_length_and_the_date():
    status, headers, body = parts(encoded(Reply(429, JSON, b'{"a":1}')))
    assert (status, body) == ("HTTP/1.1 429 Too Many Requests", b'{"a":1}')
    sent = parsedate_to_datetime(headers.pop("date")).timestamp()
    assert 0 <= time() - sent < 5
    assert headers == {**JSON, "content-length": "7"}


def test_an_unknown_status_has_no_reason():
    assert encoded(Reply(529, JSON, b"x")).startswith(b"HTTP/1.1 529 \r\n")


def test_a_body_without_a_type_is_bytes():
    _, headers, _ = parts(encoded(Reply(200, {}, b"x")))
    assert headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(("keep_alive", "expected"), [(True, None), (False, "close")])
def test_a_reply_says_whether_the_connection_is_closed(keep_alive, expected):
    reply = Reply(200, JSON, b"x", keep_alive)
    assert parts(encoded(reply))[1].get("connection") == expected
    assert as_response(reply).keep_alive is (None if keep_alive else False)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n", "\0"])
@pytest.mark.parametrize("header", ["{}x: 1", "x: 1{}y: 2", "x: 1{}"])
def test_a_header_cannot_begin_another_line(end, header):
    name, _, value = header.format(end).partition(": ")
    with pytest.raises(ValueError, match="end of a line"):
        encoded(Reply(200, {**JSON, name: value}, b"x"))


def test_aiohttp_writes_the_same_reply():
    response = as_response(Reply(429, JSON, b"x"))
    assert (response.status, dict(response.headers), response.body) == (429, JSON, b"x")
