"""Tests of converting the headers of an HTTP/2 request to the head of an HTTP/1.1 request."""

import pytest

from gateway.web.http2.requests import MalformedRequest, http1_head

PSEUDO = ((b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/v1/x?a=b"), (b":authority", b"ai:8080"))


def head(*fields, pseudo=PSEUDO, has_body=True):
    return http1_head([*pseudo, *fields], has_body=has_body)


def test_the_authority_is_the_host_and_cookies_are_joined():
    result = head((b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2"), (b"content-length", b"5"))
    lines = [b"POST /v1/x?a=b HTTP/1.1", b"host: ai:8080", b"accept: */*", b"content-length: 5", b"cookie: a=1; b=2"]
    assert result.data == b"\r\n".join([*lines, b"", b""])
    assert (result.method, result.is_chunked) == (b"POST", False)


def test_a_body_of_unknown_length_is_chunked():
    assert head().is_chunked
    assert head().data.endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n")
    assert not head(has_body=False).is_chunked


@pytest.mark.parametrize("host", [b"ai:8080", b"AI:8080"])
def test_a_host_that_is_the_authority_is_written_once(host):
    assert head((b"host", host)).data.lower().count(b"host:") == 1


def test_a_host_is_enough():
    assert b"\r\nhost: ai\r\n" in head((b"host", b"ai"), pseudo=PSEUDO[:3]).data


MALFORMED = {
    "end of line in a value": (b"x-a", b"1\r\ntransfer-encoding: chunked"),
    "line feed in a value": (b"x-a", b"1\nx: y"),
    "carriage return in a value": (b"x-a", b"1\rx: y"),
    "zero byte in a value": (b"x-a", b"1\0"),
    "space before a value": (b"x-a", b" 1"),
    "tab after a value": (b"x-a", b"1\t"),
    "end of line in a name": (b"x-a: 1\r\nx-b", b"2"),
    "end of line after a name": (b"x-a\n", b"2"),
    "colon in a name": (b"x:a", b"2"),
    "space in a name": (b"x-a ", b"2"),
    "upper case in a name": (b"X-A", b"2"),
    "empty name": (b"", b"2"),
    "other alphabet in a name": ("ä".encode(), b"2"),
    "connection": (b"connection", b"close"),
    "keep-alive": (b"keep-alive", b"5"),
    "proxy-connection": (b"proxy-connection", b"close"),
    "upgrade": (b"upgrade", b"h2c"),
    "transfer-encoding": (b"transfer-encoding", b"chunked"),
    "te": (b"te", b"chunked"),
    "another host": (b"host", b"other"),
    "a length that is no number": (b"content-length", b"5, 5"),
    "a signed length": (b"content-length", b"+5"),
    "an empty length": (b"content-length", b""),
    "a pseudo-header field after a header": (b":path", b"/other"),
    "a status": (b":status", b"200"),
}


@pytest.mark.parametrize("field", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_header_is_refused(field):
    with pytest.raises(MalformedRequest):
        head((b"x-first", b"1"), field)


@pytest.mark.parametrize("name", [b"content-length", b"host"])
def test_a_repeated_header_that_counts_once_is_refused(name):
    with pytest.raises(MalformedRequest):
        head((name, b"5"), (name, b"5"), pseudo=PSEUDO[:3])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b":method", b"GET / HTTP/1.1\r\nx: y\r\n\r\nPOST"),
        (b":method", b""),
        (b":method", b"CONNECT"),
        (b":path", b"/ HTTP/1.1\r\nx: y"),
        (b":path", b"/a b"),
        (b":path", b""),
        (b":path", "/ä".encode()),
        (b":authority", b"ai\r\nx: y"),
        (b":authority", b"ai x"),
        (b":scheme", b"ht tp"),
        (b":protocol", b"websocket"),
    ],
)
def test_a_malformed_pseudo_header_field_is_refused(name, value):
    with pytest.raises(MalformedRequest):
        head(pseudo=dict([*PSEUDO, (name, value)]).items())


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_or_repeated_pseudo_header_field_is_refused(number):
    for pseudo in ((*PSEUDO[:number], *PSEUDO[number + 1 :]), (*PSEUDO, PSEUDO[number])):
        with pytest.raises(MalformedRequest):
            head(pseudo=pseudo)
