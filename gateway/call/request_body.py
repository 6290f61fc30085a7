"""Reads the body of a call, bounded in size and time, and removes its content codings (`content_codings.py`)."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from gateway.call import content_codings
from gateway.contract.errors import TIMEOUT, Problem, Refused

BODY_SECONDS: Final = 60.0
"""Maximum seconds between two parts of a request's body."""


def is_compressed(request: web.Request) -> bool:
    """Return whether a header of the request names a content coding other than `identity`."""
    values = request.headers.getall("Content-Encoding", ())
    return any(value.strip().lower() not in {"", "identity"} for value in values)


async def read(request: web.Request, limit: int) -> bytes:
    """Return the body without its content codings.

    `limit` is the maximum number of bytes, both of what the client sends and of the decoded body. Raises `Refused`.
    """
    codings = content_codings.names(request.headers.getall("Content-Encoding", ()))
    body = await _received(request, limit)
    if not codings or not body:
        return body
    # in a thread: a small body may become a large one
    return await asyncio.to_thread(content_codings.decode, body, codings, limit)


async def _received(request: web.Request, limit: int) -> bytes:
    """Return the bytes that the client sends as the body. Raises `Refused`."""
    if (request.content_length or 0) > limit:
        raise content_codings.too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                data = await request.content.readany()
        except TimeoutError:
            raise Refused(Problem(TIMEOUT, f"nothing of the body came for {BODY_SECONDS:g} seconds")) from None
        if not data:
            return b"".join(parts)
        size += len(data)
        if size > limit:
            raise content_codings.too_large(limit)
        parts.append(data)
