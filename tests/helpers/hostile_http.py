"""An attacker's client. It sends any bytes over a connection, and returns everything that comes back."""

import asyncio
import json
import re
from contextlib import suppress
from urllib.parse import urlsplit

from tests.helpers.gateway import HAIKU, NOVA
from tests.helpers.raw_http import Raw
from tests.helpers.waiting import SECONDS

CHAT = {"model": HAIKU, "messages": [{"role": "user", "content": "hello"}]}
MESSAGES = {**CHAT, "max_tokens": 5}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
CONVERSE_PATH = f"/bedrock/model/{NOVA}/converse"
CLAUDE = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "hello"}],
}
OUR_HEADERS = {"accept", "accept-encoding", "authorization", "content-length", "content-type", "host", "user-agent"}
"""Headers that the simulated Bedrock gets from the gateway if no grant and no provider adds any."""
_STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3}) [A-Z]")


def place(running, at=0):
    """Return the host and port of a listener."""
    url = urlsplit(running.running.urls[at])
    return url.hostname, url.port


async def connected(running, *, at=0, **options):
    return await Raw.open(*place(running, at), **options)


def request(line="GET /api/whoami HTTP/1.1", *headers, host="localhost", body=b""):
    """Return the bytes of a request. Header lines are written exactly as given."""
    named = [] if host is None else [b"Host: " + _bytes(host)]
    return b"\r\n".join([_bytes(line), *named, *map(_bytes, headers), b"", body])


def post(path, body, *headers):
    data = json.dumps(body).encode()
    return request(f"POST {path} HTTP/1.1", *headers, f"Content-Length: {len(data)}", body=data)


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode()


async def heard(raw, data):
    """Send `data`, and return all bytes that come back until the other end closes or resets the connection.

    The other end may close the connection before it has read all of `data`.
    """
    raw.writer.write(data)
    answer = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(SECONDS):
            while part := await raw.reader.read(65536):
                answer += part
    return answer


def statuses(answer):
    return [int(status) for status in _STATUS.findall(answer)]


def text_of(seen):
    """Return a request that arrived at a provider as one text: method, path, query, headers and body."""
    return f"{seen.method} {seen.path}?{seen.query} {seen.headers} {seen.body!r}"


def crashes(running):
    """Return the log lines that report an internal error of the gateway."""
    return [entry for name in ("call.crashed", "http.error") for entry in running.lines.entries(name)]
