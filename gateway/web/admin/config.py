"""GET and PUT /aperture/config, POST /aperture/config:validate: the configuration, for admins.

The paths are those of Aperture's documentation.

- Secrets are never shown. Placeholders (`config/document/redact.py`) replace them. When a text with placeholders is
  saved, each placeholder is replaced by its secret.
- A save needs the entity tag of the edited configuration (`If-Match`), so that nobody overwrites another admin's change
  by mistake. `If-Match: *` overwrites whatever is there.

`config_edits.py` checks and saves the texts, for these routes and for the page Configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.context import ConfigReloader
from gateway.call.request_body import is_compressed
from gateway.web.admin.config_edits import (
    ConfigView,
    admin_of,
    admin_view,
    error_values,
    log_refusal,
    proposal_of,
    save_text,
)
from gateway.web.admin.problems import Refusal, problem_response

MAX_BODY: Final = 1024 * 1024
"""Maximum number of bytes of a body.

The configuration of a large tailnet has tens of thousands of bytes. A much larger text would block a thread for long.
"""
BODY_SECONDS: Final = 30.0
"""Maximum number of seconds until the whole body has arrived."""
Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes() -> list[web.RouteDef]:
    return [
        web.get("/aperture/config", _errors_as_problems(show)),
        web.put("/aperture/config", _errors_as_problems(_audit(save))),
        web.post("/aperture/config:validate", _errors_as_problems(validate)),
    ]


async def show(request: web.Request) -> web.Response:
    """Return {"config": text, "error": ""}. `error` says why the gateway does not use this text. It is "" if the
    gateway uses the text.
    """
    _, reloader = admin_of(request)
    return _answer(await admin_view(reloader), request)


async def save(request: web.Request) -> web.Response:
    """Save the text in the body. Return the new text and its entity tag. Raises `Refusal` if the text is not saved."""
    _, reloader, text = await _admin_and_text(request)
    view = await admin_view(reloader)
    _match(request, view.etag)
    await save_text(request, text, view)
    return _answer(await admin_view(reloader))


async def validate(request: web.Request) -> web.Response:
    """Return {"valid": bool, "errors": []} for the text in the body. The text gets the same checks as a text that is
    saved.
    """
    identity, reloader, text = await _admin_and_text(request)
    view = await admin_view(reloader)
    proposal = await asyncio.to_thread(proposal_of, text, view, request, identity, reloader)
    return _json({"valid": not proposal.errors, "errors": list(map(error_values, proposal.errors))})


async def _admin_and_text(request: web.Request) -> tuple[Identity, ConfigReloader, str]:
    """Return the admin, the reloader, and the text in the body.

    Raises `Refusal` if the caller is no admin, there is no configuration file, or the body is wrong.
    """
    admin_of(request)
    text = await _text(request)
    # the caller may have lost the role while the body arrived
    return *admin_of(request), text


async def _text(request: web.Request) -> str:
    """Return the value of `config` in the body. Raises `Refusal` if the body cannot be used."""
    if request.content_type != "application/json" or is_compressed(request):
        # a browser sends this content type, and PUT, to another site only after a CORS preflight request
        headers = {"accept-encoding": "identity"}
        raise Refusal(415, "the body must be application/json, not compressed", headers=headers)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(request)
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {BODY_SECONDS:g} seconds") from None
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is no JSON: {error.msg} at {error.lineno}:{error.colno}") from None
    text = given.get("config") if isinstance(given, dict) else None
    if not isinstance(text, str):
        raise Refusal(400, 'the body must be {"config": "..."}, with the configuration\'s text')
    return text


async def _read(request: web.Request) -> bytes:
    """Return the body. Raises `Refusal` if the body is larger than `MAX_BODY`.

    The configured limit for bodies of calls does not apply here, so that a limit that is too low can be corrected.
    """
    body = bytearray()
    if (request.content_length or 0) <= MAX_BODY:
        while data := await request.content.readany():
            body += data
            if len(body) > MAX_BODY:
                break
        else:
            return bytes(body)
    raise Refusal(413, f"the body is larger than {MAX_BODY} bytes")


def _match(request: web.Request, etag: str) -> None:
    """Raise `Refusal` unless `If-Match` is `*` or has the current tag. Weak tags never match (RFC 9110, 13.1.1)."""
    given = request.headers.get("If-Match")
    if given is None:
        raise Refusal(428, "If-Match is missing; send the ETag of the configuration that this one is made from")
    if given.strip() == "*":
        return
    if not any(tag.value == etag and not tag.is_weak for tag in request.if_match or ()):
        raise Refusal(412, "the configuration is another one by now; read it again", headers={"etag": f'"{etag}"'})


def _answer(view: ConfigView, request: web.Request | None = None) -> web.Response:
    headers = {"etag": f'"{view.etag}"', "cache-control": "no-store"}
    if request is not None and not view.error:
        given = request.headers.get("If-None-Match", "").strip()
        if given == "*" or any(tag.value == view.etag for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
    return _json({"config": view.text, "error": view.error}, headers)


def _audit(handler: Handler) -> Handler:
    """Return a handler that also logs the refusals of `handler`."""

    @wraps(handler)
    async def auditing(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            log_refusal(request, refusal)
            raise

    return auditing


def _errors_as_problems(handler: Handler) -> Handler:
    @wraps(handler)
    async def answering(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return problem_response(refusal)

    return answering


def _json(data: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    headers = {"cache-control": "no-store", **(headers or {})}
    return web.Response(body=orjson.dumps(data), content_type="application/json", headers=headers)
