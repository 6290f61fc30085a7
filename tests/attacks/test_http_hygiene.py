"""Tests of malformed and unusual HTTP requests.

The gateway handles such a request as the standard says. If it refuses the request, it answers in its own error format
and writes one log line.
"""

import asyncio
import json

import pytest

from tests.helpers.gateway import bedrock, gate
from tests.helpers.hostile_http import connected, heard, statuses

HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /api/whoami HTTP/1.1\r\n" + HOST
POST = b"POST /v1/messages HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"x" * 1_000_000
REFUSED = {
    # malformed requests, each with a word that no reply may repeat
    "HTTP/0.9": b"GET /secret HTTP/0.9\r\n" + HOST + b"\r\n",
    "no version": b"GET /secret\r\n\r\n",
    "HTTP/2.0": b"GET /secret HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET /secret HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/1.10": b"GET /secret HTTP/1.10\r\n" + HOST + b"\r\n",
    "http/1.1": b"GET /secret http/1.1\r\n" + HOST + b"\r\n",
    "a tab": b"GET\t/secret HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space before": b" GET /secret HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space after": b"GET /secret HTTP/1.1 \r\n" + HOST + b"\r\n",
    "lines of LF": b"GET /secret HTTP/1.1\nHost: 127.0.0.1\n\n",
    "a method in lower case": b"get /secret HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long method": b"G" * 100_000 + b" /secret HTTP/1.1\r\n\r\n",
    "a control character in the path": b"GET /secret\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path that is not ASCII": "GET /secret\xe9 HTTP/1.1\r\n".encode() + HOST + b"\r\n",
    "a fragment": b"GET /secret#x HTTP/1.1\r\n" + HOST + b"\r\n",
    "another host's URL": b"GET http://secret/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT secret:443 HTTP/1.1\r\nHost: secret:443\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "no Host": b"GET /secret HTTP/1.1\r\n\r\n",
    "two Host": GET + b"Host: secret\r\n\r\n",
    "two Origin": GET + b"Origin: http://127.0.0.1\r\nOrigin: http://secret\r\n\r\n",
    "two Content-Type": POST + b"Content-Type: a/b\r\nContent-Type: secret/c\r\nContent-Length: 2\r\n\r\n{}",
    "two Content-Length": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "Content-Length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a length with +": POST + b"Content-Length: +2\r\n\r\n{}",
    "a length below 0": POST + b"Content-Length: -2\r\n\r\n{}",
    "a length in hex": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "a length of 23 digits": POST + b"Content-Length: " + b"9" * 23 + b"\r\n\r\n{}",
    "Transfer-Encoding with Content-Length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "two Transfer-Encoding": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: secret\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "a space before the colon": GET + b"Secret : a\r\n\r\n",
    "a space in a name": GET + b"Secret y: a\r\n\r\n",
    "no colon": GET + b"Secret\r\n\r\n",
    "an empty name": GET + b": secret\r\n\r\n",
    "obs-fold": GET + b"Secret: a\r\n b\r\n\r\n",
    "obs-fold at first": b"GET / HTTP/1.1\r\n Secret: a\r\n" + HOST + b"\r\n",
    "NUL": GET + b"X: secret\0\r\n\r\n",
    "a bare CR": GET + b"X: secret\rb\r\n\r\n",
    "DEL": GET + b"X: secret\x7f\r\n\r\n",
    "200 headers": GET + b"".join(b"X%d: a\r\n" % number for number in range(200)) + b"\r\n",
    "Expect": POST + b"Expect: secret\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk of size zz": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk of size 0x2": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk of 2^72": CHUNKED + b"f" * 18 + b"\r\n{}\r\n0\r\n\r\n",
    "chunks with LF": CHUNKED + b"2\n{}\n0\n\n",
    "a chunk that is longer": CHUNKED + b"2\r\n{}x\r\n0\r\n\r\n",
    "a long trailer": CHUNKED + b"2\r\n{}\r\n0\r\nSecret: " + LONG + b"\r\n\r\n",
}
"""Malformed requests that the gateway may refuse before it has received their whole body."""
BODIES = {
    # bodies whose framing turns out to be wrong when the handler reads them
    "a chunk of size zz": b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk that is longer": b"2\r\n{}x\r\n0\r\n\r\n",
    "an extension of 1 MB": b"2;" + LONG + b"\r\n{}\r\n0\r\n\r\n",
    "1,000 extensions of 1 KB": (b"1;" + b"x" * 1000 + b"\r\n \r\n") * 1000 + b"0\r\n\r\n",
    "a size of a million zeros": b"0" * 1_000_000 + b"2\r\n{}\r\n0\r\n\r\n",
}
SERVED = {
    # unusual requests that are right by RFC 9112, or that the RFC lets a server accept
    "two spaces (3)": b"GET  /api/whoami  HTTP/1.1\r\n" + HOST + b"\r\n",
    "empty lines before (2.2)": b"\r\n\r\n" + GET + b"\r\n",
    "HTTP/1.0": b"GET /api/whoami HTTP/1.0\r\n" + HOST + b"\r\n",
    "an offer of another protocol": GET + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
}


def headers_of(answer):
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}


@pytest.fixture
async def gateway(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as running:
        yield running


async def test_a_malformed_request_gets_the_gateways_own_error_page(gateway):
    for name, data in REFUSED.items():
        answer = await heard(await connected(gateway), data)
        head, _, body = answer.partition(b"\r\n\r\n")
        headers = headers_of(answer)
        assert head.startswith(b"HTTP/1.0 4" if "in HTTP/1.0" in name else b"HTTP/1.1 4"), name
        assert statuses(answer)[0] in {400, 417, 431}, name
        assert (headers["server"], headers["x-request-id"][:4], headers.get("connection", "close")) == (
            "irisgate",
            "req_",
            "close",
        )
        assert json.loads(body)["error"]
        assert not [word for word in (b"secret", b"aiohttp", b"python") if word in answer.lower()], name
    await gateway.log_is_written()
    kinds = [entry["kind"] for entry in gateway.lines.entries("http.error")]
    assert len(kinds) == len(set(kinds)) > 3
    assert b"ecret" not in gateway.lines.data


@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "later"])
async def test_a_malformed_body_is_refused_in_the_clients_dialect(gateway, is_late):
    for name, data in BODIES.items():
        raw = await connected(gateway)
        raw.writer.write(CHUNKED)
        if is_late:
            raw.writer.write(b"1\r\n \r\n")
            await asyncio.sleep(0.05)
        answer = await heard(raw, data)
        assert statuses(answer) == [400], name
        assert headers_of(answer)["connection"] == "close"
        assert b"valid HTTP" in answer or b"framing of the body" in answer, name
    await gateway.log_is_written()
    assert gateway.lines.entries("http.error")
    assert not gateway.lines.entries("call.crashed")


async def test_unusual_requests_are_served(gateway):
    for name, data in SERVED.items():
        raw = await connected(gateway)
        raw.writer.write(data)
        status, headers, body = await raw.reply()
        assert (status, json.loads(body)["login"], headers["server"]) == (200, "(loopback)", "irisgate"), name


async def test_small_chunks_with_a_short_extension_are_read(gateway):
    """Check that a body in chunks of one byte is read, and not refused as an attack."""
    raw = await connected(gateway)
    raw.writer.write(
        CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in b"{" + b" " * 60_000) + b"1;a=b\r\n}\r\n0\r\n\r\n"
    )
    status, _, body = await raw.reply()
    assert (status, "must name" in body.decode()) == (400, True)


async def test_two_content_encodings_are_both_undone(gateway):
    raw = await connected(gateway)
    raw.writer.write(POST + b"Content-Encoding: gzip\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}")
    status, _, body = await raw.reply()
    assert (status, "not valid gzip data" in body.decode()) == (400, True)
