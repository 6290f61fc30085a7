"""Tests of HTTP requests that two programs could interpret differently (request smuggling).

Each such request gets a 4xx, and no part of it is interpreted as another request.
"""

import json

import pytest

from tests.helpers.gateway import NOVA, bedrock, gate
from tests.helpers.hostile_http import (
    CONVERSE,
    CONVERSE_PATH,
    connected,
    crashes,
    heard,
    post,
    request,
    statuses,
)

CALL = json.dumps(CONVERSE).encode()
CHUNKED = b"%x\r\n" % len(CALL) + CALL + b"\r\n0\r\n\r\n"
LINE = f"POST {CONVERSE_PATH} HTTP/1.1"
INNER = post(CONVERSE_PATH, CONVERSE)
"""A complete call that is sent as the body of another request. It would cost money if it were executed."""


def chunked(*headers, body=CHUNKED):
    return request(LINE, *headers, body=body)


TARGETS = {
    "an absolute target of another host": request("GET http://evil.example/api/whoami HTTP/1.1"),
    "an absolute target of ours": request("GET http://localhost/api/whoami HTTP/1.1"),
    "an absolute target that is open to all": request("GET http://evil.example/healthz HTTP/1.1"),
    "an absolute target with a user": request("GET http://user:word@localhost/api/whoami HTTP/1.1"),
    "an absolute target with an impossible port": request("GET http://localhost:99999/api/whoami HTTP/1.1"),
    "an absolute target of another scheme": request("GET ftp://localhost/api/whoami HTTP/1.1"),
    "an absolute target of a call": request(
        f"POST http://evil.example{CONVERSE_PATH} HTTP/1.1", f"Content-Length: {len(CALL)}", body=CALL
    ),
    "an authority": request("GET evil.example:80 HTTP/1.1"),
    "a tunnel": request("CONNECT evil.example:443 HTTP/1.1"),
    "a tunnel to us": request("CONNECT localhost:443 HTTP/1.1"),
    "a star": request("OPTIONS * HTTP/1.1"),
    "a star that is read": request("GET * HTTP/1.1"),
    "two slashes and a host": request("GET //evil.example/api/whoami HTTP/1.1"),
    "two slashes and our host": request("GET //localhost/api/whoami HTTP/1.1"),
    "two slashes before a call": request(
        f"POST //evil.example{CONVERSE_PATH} HTTP/1.1", f"Content-Length: {len(CALL)}", body=CALL
    ),
    "a fragment": request("GET /api/whoami#x HTTP/1.1"),
    "dots": request("GET /healthz/../api/whoami HTTP/1.1"),
    "encoded dots": request("GET /healthz/%2e%2e/api/whoami HTTP/1.1"),
    "encoded slashes": request("GET /healthz%2F..%2Fapi%2Fwhoami HTTP/1.1"),
    "a backslash": request("GET \\api\\whoami HTTP/1.1"),
    "bytes that are no text": request(b"GET /api/\xff\xfe HTTP/1.1"),
    "a zero byte": request(b"GET /api/whoami\x00 HTTP/1.1"),
    "a space in the path": request("GET /api/whoami /x HTTP/1.1"),
}
LINES = {
    "no version": b"GET /api/whoami\r\n\r\n",
    "version 0.9": request("GET /api/whoami HTTP/0.9"),
    "version 1.2": request("GET /api/whoami HTTP/1.2"),
    "version 2.0": request("GET /api/whoami HTTP/2.0"),
    "version 3.0": request("GET /api/whoami HTTP/3.0"),
    "a version in small characters": request("GET /api/whoami http/1.1"),
    "another protocol": request("GET /api/whoami RTSP/1.0"),
    "a method in small characters": request("get /api/whoami HTTP/1.1"),
    "a method that is none": request("STEAL /api/whoami HTTP/1.1"),
    "a tab for a space": request("GET\t/api/whoami HTTP/1.1"),
    "lines without a carriage return": b"GET /api/whoami HTTP/1.1\nHost: localhost\n\n",
    "a carriage return alone": request("GET /api/whoami HTTP/1.1", b"X-A: b\rHost: evil.example"),
    "a header without a colon": request("GET /api/whoami HTTP/1.1", "Nothing"),
    "a header without a name": request("GET /api/whoami HTTP/1.1", ": value"),
    "a header that goes on": request("GET /api/whoami HTTP/1.1", "X-A: b\r\n c"),
    "a header before the first": b"GET /api/whoami HTTP/1.1\r\n X-A: b\r\nHost: localhost\r\n\r\n",
    "a zero byte in a header": request("GET /api/whoami HTTP/1.1", b"X-A: b\x00c"),
    "a header of endless length": request("GET /api/whoami HTTP/1.1", "X-A: " + "b" * 100_000),
    "a target of endless length": request(f"GET /{'b' * 100_000} HTTP/1.1"),
    "headers without end": request("GET /api/whoami HTTP/1.1", *[f"X-A-{number}: b" for number in range(5000)]),
    "an expectation that is none": request("GET /api/whoami HTTP/1.1", "Expect: 200-more"),
}
HOSTS = {
    "no Host": request(host=None),
    "two Hosts": request("GET /api/whoami HTTP/1.1", "Host: localhost"),
    "two Hosts that differ": request("GET /api/whoami HTTP/1.1", "Host: evil.example"),
    **{
        f"Host: {name}": request(host=name)
        for name in (
            "", "evil.example", "localhost.evil.example", "evil.example@localhost", "user:word@localhost",
            "localhost:99999", "localhost:0", "localhost:", "localhost:80:80", "localhost:-1", "local host",
            "localhost/path", "localhost?x", "localhost#x", "localhost\\evil.example", "localhost..", ".localhost",
            "löcalhost", "xn--lcalhost-n4a", "ｌocalhost", "127.1", "0x7f.0.0.1", "2130706433", "[::1", "[evil.example]",
            "localhost, evil.example", "localhost;evil.example", "http://localhost", "*", "ai.evil.example", "a" * 5000,
        )
    },
}  # fmt: skip
CODINGS = {
    "a length beside chunks": chunked("Transfer-Encoding: chunked", "Content-Length: 5"),
    "chunks beside a length": chunked(f"Content-Length: {len(CHUNKED)}", "Transfer-Encoding: chunked"),
    "chunks under another coding": chunked("Transfer-Encoding: identity, chunked"),
    "compressed chunks": chunked("Transfer-Encoding: gzip, chunked"),
    "chunks twice": chunked("Transfer-Encoding: chunked, chunked"),
    "chunks in two lines": chunked("Transfer-Encoding: identity", "Transfer-Encoding: chunked"),
    "chunks that are not last": chunked("Transfer-Encoding: chunked, identity"),
    "a coding that is almost chunked": chunked("Transfer-Encoding: xchunked"),
    "a coding in quotes": chunked('Transfer-Encoding: "chunked"'),
    "a coding behind a control character": chunked(b"Transfer-Encoding: \x0bchunked"),
    "a coding with a space before its colon": chunked("Transfer-Encoding : chunked"),
    "chunks in an old version": request(LINE.replace("1.1", "1.0"), "Transfer-Encoding: chunked", body=CHUNKED),
    "two lengths": request(LINE, f"Content-Length: {len(CALL)}", f"Content-Length: {len(CALL)}", body=CALL),
    "two lengths that differ": request(LINE, "Content-Length: 0", f"Content-Length: {len(CALL)}", body=CALL),
    "lengths in a list": request(LINE, f"Content-Length: {len(CALL)}, {len(CALL)}", body=CALL),
    "a length with a sign": request(LINE, f"Content-Length: +{len(CALL)}", body=CALL),
    "a length below zero": request(LINE, "Content-Length: -1", body=CALL),
    "a length in hexadecimal": request(LINE, f"Content-Length: 0x{len(CALL):x}", body=CALL),
    "a length of no number": request(LINE, "Content-Length: 1_0", body=CALL),
    "a length beyond all numbers": request(LINE, f"Content-Length: {2**70}", body=CALL),
    "a chunk whose extension breaks the line": chunked(
        "Transfer-Encoding: chunked", body=b"%x;\nx\r\n" % len(CALL) + CALL + b"\r\n0\r\n\r\n"
    ),
    "a chunk of a negative size": chunked("Transfer-Encoding: chunked", body=b"-1\r\n\r\n0\r\n\r\n"),
    "a chunk of an impossible size": chunked("Transfer-Encoding: chunked", body=b"f" * 20 + b"\r\n{}\r\n0\r\n\r\n"),
    "a chunk that does not end where it says": chunked("Transfer-Encoding: chunked", body=b"2\r\n" + CALL + b"\r\n"),
}
SWALLOWED = {
    "a refused call": post(CONVERSE_PATH, CONVERSE, "Origin: https://evil.example"),
    "a page that takes no body": request("GET /api/whoami HTTP/1.1", f"Content-Length: {len(INNER)}", body=INNER),
    "an upgrade that is not made": request(
        f"POST {CONVERSE_PATH} HTTP/1.1", "Connection: Upgrade, close", "Upgrade: h2c", f"Content-Length: {len(INNER)}", body=INNER,
    ),
    "a body that is no JSON": request(LINE, f"Content-Length: {len(INNER)}", body=INNER),
    "a body in chunks": request(
        LINE, "Transfer-Encoding: chunked", body=b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n"
    ),
    "a refused call with a request in its body": request(
        LINE, "Origin: null", f"Content-Length: {len(INNER)}", body=INNER
    ),
    "a route that is not there": request("POST /nowhere HTTP/1.1", f"Content-Length: {len(INNER)}", body=INNER),
}  # fmt: skip
"""Requests whose body is another request."""


@pytest.fixture
async def gated(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, models=[NOVA])}, server={"hosts": ["ai"]}) as running:
        yield running


async def refused(gated, bedrock_sim, table):
    """Check that each request is refused. Then check that an honest request on the same connection gets its own reply
    or none.
    """
    last = request("GET /healthz HTTP/1.1", "Connection: close")
    for what, data in table.items():
        raw = await connected(gated)
        answer = await heard(raw, data + last)
        counts = statuses(answer)
        assert counts, what
        assert 400 <= counts[0] < 500, (what, answer[:300])
        assert len(counts) <= 2, (what, answer)
        assert all(400 <= status < 500 or status == 200 for status in counts), (what, answer)
        assert b"Traceback" not in answer, what
        assert b"login" not in answer, what
        await raw.close()
    assert bedrock_sim.requests == []
    assert gated.lines.entries("call.crashed") == []
    assert b"Traceback" not in gated.lines.data


@pytest.mark.parametrize("table", [TARGETS, LINES, HOSTS, CODINGS], ids=["targets", "lines", "hosts", "codings"])
async def test_what_could_be_read_in_two_ways_is_refused_and_smuggles_nothing(gated, bedrock_sim, table):
    await refused(gated, bedrock_sim, table)


@pytest.mark.parametrize("version", ["0.9", "2.0"])
async def test_a_version_that_is_not_spoken_is_refused_also_when_nothing_follows(gated, version):
    raw = await connected(gated)
    answer = await heard(raw, request(f"GET /api/whoami HTTP/{version}"))
    assert statuses(answer) == [400]


async def test_a_request_in_a_body_is_no_request(gated, bedrock_sim):
    for what, data in SWALLOWED.items():
        raw = await connected(gated)
        answer = await heard(raw, data + request("GET /healthz HTTP/1.1", "Connection: close"))
        assert len(statuses(answer)) <= 2, (what, answer)
        await raw.close()
    assert bedrock_sim.requests == []
    assert crashes(gated) == []


async def test_names_of_ours_are_taken_in_every_honest_spelling(gated):
    raw = await connected(gated)
    for host in ("localhost", "LocalHost:8080", "ai", "AI.", "127.0.0.1", "[::1]", "[::1]:80"):
        assert (await raw.ask("/api/whoami", host=host))[0] == 200, host
