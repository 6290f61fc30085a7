"""Reads the body of a call within limits of size and time, and removes its content codings (`content_codings.py`).

The bytes of the body are reserved in the memory budget of all calls while they are read (`admission.py`).
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from aiohttp import web

from gateway.call import content_codings
from gateway.call.admission import Admitted
from gateway.config.server import Limits
from gateway.contract.errors import REQUEST_TIMEOUT, Problem, Refused, invalid

BODY_SECONDS: Final = 60.0
"""Maximum number of seconds between two parts of a request's body."""
GRACE_SECONDS: Final = 30.0
"""Seconds from the beginning of a body during which the minimum rate `Limits.body_bytes_per_second` does not apply."""


class MalformedBody(web.RequestPayloadError):
    """The error for a body with malformed chunked framing, or with far more bytes of framing than of data.

    `web/connections.py` raises this.
    """


def is_compressed(request: web.Request) -> bool:
    """Return whether a header of the request names a content coding other than `identity`."""
    values = request.headers.getall("Content-Encoding", ())
    return any(value.strip().lower() not in {"", "identity"} for value in values)


def announced(request: web.Request, limit: int) -> int:
    """Return the length of the body according to `Content-Length`, or 0 without this header.

    Raises `Refused` if the length is greater than `limit`.
    """
    size = request.content_length or 0
    if size > limit:
        raise content_codings.too_large(limit)
    return size


async def read(request: web.Request, limits: Limits, admitted: Admitted) -> bytes:
    """Return the body without its content codings.

    `limits.body_bytes` is the maximum size of the encoded body, and also of the decoded body. Raises `Refused` if the
    body is too large, too slow or damaged, or if the memory budget is used up.
    """
    codings = content_codings.names(request.headers.getall("Content-Encoding", ()))
    body = await _received(request, limits, admitted)
    if not codings or not body:
        return body
    decoding = content_codings.Decoding(body, codings, limits.body_bytes)
    # in a thread, because even a small body may decode to a large one
    while (size := await asyncio.to_thread(decoding.slice)) is not None:
        admitted.ensure(size)
    decoded = decoding.body
    admitted.ensure(len(decoded))
    admitted.shrink(len(decoded))
    return decoded


async def _received(request: web.Request, limits: Limits, admitted: Admitted) -> bytes:
    """Return the body as the client sends it.

    Raises `Refused` if the body is too large or too slow, or if the memory budget is used up.
    """
    content = request.content
    parts: list[bytes] = []
    size = 0
    begun = monotonic()
    while True:
        slowest = begun + GRACE_SECONDS + size / limits.body_bytes_per_second - monotonic()
        is_complete = content.is_eof()
        try:
            if is_complete:  # nothing is waited for, so that no timer is needed
                data = content.read_nowait()
            else:
                async with asyncio.timeout(min(BODY_SECONDS, slowest)):
                    data = await content.readany()
        except TimeoutError:
            raise Refused(Problem(REQUEST_TIMEOUT, _slow(size, limits.body_bytes_per_second, slowest))) from None
        except MalformedBody:
            raise invalid("the framing of the body is malformed, or is far longer than the body") from None
        size += len(data)
        if size > limits.body_bytes:
            raise content_codings.too_large(limits.body_bytes)
        admitted.ensure(size)
        parts.append(data)
        if is_complete or not data:
            return b"".join(parts)


def _slow(size: int, rate: int, slowest: float) -> str:
    if slowest > BODY_SECONDS:
        return f"nothing of the body came for {BODY_SECONDS:g} seconds"
    return (
        f"the body came too slowly: {size} bytes; after {GRACE_SECONDS:g} seconds it must come at {rate} bytes a second"
    )
