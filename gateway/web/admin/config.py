"""GET and PUT /aperture/config, POST /aperture/config:validate: the configuration, for admins.

The paths are those of Aperture's documentation.

- Keys are never shown. Marks replace them (`config/document/redact.py`), and a configuration with marks can be saved.
- A request to save must have the entity tag of the configuration that was edited (`If-Match`), so that nobody
  overwrites a change unseen. With `If-Match: *`, the current configuration is overwritten in any case.
- If the caller loses the admin role while a save runs, nothing is saved.
- `config/edit.py` checks the new text. The reloader writes the text to the file and applies the new configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.context import GATEWAY, REQUEST_ID, ConfigReloader, NotTaken, Who, identity_of
from gateway.call.guard import cross_site
from gateway.call.request_body import is_compressed
from gateway.call.runtime import runtime
from gateway.config.document import atomic_file
from gateway.config.document.hujson import HujsonError, parse
from gateway.config.document.redact import Known, redact, scrub
from gateway.config.edit import Proposal, propose
from gateway.config.findings import ConfigError, Finding
from gateway.config.load import Loaded
from gateway.config.model import active_secrets
from gateway.web.admin.problems import REPLACED, Refusal, problem_response

MAX_BODY: Final = 1024 * 1024
"""Maximum number of bytes of a body.

The configuration of a large tailnet has tens of thousands of bytes. A much larger text would block a thread for long.
"""
BODY_SECONDS: Final = 30.0
"""Maximum number of seconds until the whole body has arrived."""
MAX_PATHS: Final = 100
"""Maximum number of faults whose paths are logged when a configuration is refused."""

Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes() -> list[web.RouteDef]:
    return [
        web.get("/aperture/config", _errors_as_problems(show)),
        web.put("/aperture/config", _errors_as_problems(_audit(save))),
        web.post("/aperture/config:validate", _errors_as_problems(validate)),
    ]


@dataclass(frozen=True, slots=True)
class _AdminView:
    """The configuration file, and what an admin may see of it."""

    data: bytes
    """The content of the file, with its secrets."""
    text: str
    """The text with marks in place of the secrets."""
    error: str
    """The reason why the text differs from the configuration in use; "" if the text is in use."""
    etag: str
    known: Mapping[str, Known]
    """The secret behind each mark."""
    active: frozenset[str]
    """The secrets of the configuration in use."""


async def show(request: web.Request) -> web.Response:
    """Return {"config": text, "error": ""}. `error` says why the text is not in use; "" if the text is in use."""
    _, reloader = _admin(request)
    return _answer(await _admin_view(reloader), request)


async def save(request: web.Request) -> web.Response:
    """Save the text in the body, and return the new text and its tag. Raises `Refusal` if the text is not saved."""
    identity, reloader, text = await _admin_and_text(request)
    view = await _admin_view(reloader)
    _match(request, view.etag)
    if reloader.gateway.follower.is_replaced:
        raise Refusal(503, REPLACED)
    who = Who(identity.login, identity.node, request[REQUEST_ID])
    try:
        await asyncio.to_thread(atomic_file.check, reloader.path)
        proposal = await asyncio.to_thread(_proposal, text, view, request, identity, reloader)
        if proposal.errors:
            raise _invalid(proposal.errors)
        await reloader.save(proposal.text, view.data, who, lambda: _admin(request))
    except ConfigError as error:
        # the text was valid a moment ago, but a secret to which it refers has disappeared since
        raise _invalid(tuple(_without_secrets(finding, view) for finding in error.findings)) from None
    except atomic_file.Changed as error:
        raise Refusal(412, f"{error}; read it again") from None
    except atomic_file.NotWritable as error:
        raise Refusal(409, str(error)) from None
    except atomic_file.NoSpace as error:
        raise Refusal(507, str(error)) from None
    except NotTaken as error:
        raise Refusal(500, str(error)) from None
    except OSError as error:
        raise Refusal(500, f"the file cannot be written: {error.strerror}") from None
    return _answer(await _admin_view(reloader))


async def validate(request: web.Request) -> web.Response:
    """Return {"valid": bool, "errors": []} for the text in the body. The checks are those of a save."""
    identity, reloader, text = await _admin_and_text(request)
    view = await _admin_view(reloader)
    proposal = await asyncio.to_thread(_proposal, text, view, request, identity, reloader)
    return _json({"valid": not proposal.errors, "errors": list(map(_error, proposal.errors))})


def _admin(request: web.Request) -> tuple[Identity, ConfigReloader]:
    gateway = request.app[GATEWAY]
    identity = identity_of(request)
    role = gateway.runtime.grants.access(identity).role if identity else None
    if identity is None or role is None:
        raise Refusal(403, "access denied: no role granted")
    if role != "admin":
        raise Refusal(403, "access denied: only an admin may see or change the configuration")
    if gateway.reloader is None:
        raise Refusal(409, "the configuration was not read from a file, so there is none to show or to change")
    return identity, gateway.reloader


async def _admin_and_text(request: web.Request) -> tuple[Identity, ConfigReloader, str]:
    """Return the admin, the reloader, and the text in the body.

    Raises `Refusal` if the caller is no admin, there is no configuration file, or the body is wrong.
    """
    _admin(request)
    text = await _text(request)
    # the caller may have lost the role while the body arrived
    return *_admin(request), text


async def _admin_view(reloader: ConfigReloader) -> _AdminView:
    """Return what an admin may see of the file, or of the text in use if the file is not valid HuJSON.

    Raises `Refusal` if the file cannot be read.
    """
    gateway, served = reloader.gateway, reloader.loaded
    error, active = gateway.config_error, active_secrets(gateway.runtime.config)
    try:
        data = await asyncio.to_thread(atomic_file.read, reloader.path)
    except (OSError, ValueError) as unread:
        raise Refusal(409, f"{reloader.path} cannot be read: {getattr(unread, 'strerror', None) or unread}") from None
    return await asyncio.to_thread(_read_as, data, reloader, served, error, active)


def _read_as(data: bytes, reloader: ConfigReloader, served: Loaded, error: str, active: frozenset[str]) -> _AdminView:
    tag = reloader.etag(data, error)
    try:
        document = parse(data.decode())
    except (UnicodeDecodeError, HujsonError) as broken:
        document = served.document
        error = error or f"{reloader.path}: {broken}"
    if not error and data != served.text.encode():
        error = "the file has changed and is not taken over yet"
    of_served = redact(served.document, reloader.key, active)
    view = of_served if document.text == served.text else redact(document, reloader.key, active)
    known = {**of_served.known, **view.known}
    return _AdminView(data, view.text, _scrub(error, active, known), tag, known, active)


def _without_secrets(finding: Finding, view: _AdminView) -> Finding:
    path, message = (_scrub(text, view.active, view.known) for text in (finding.path, finding.message))
    return replace(finding, path=path, message=message)


def _scrub(text: str, active: frozenset[str], known: Mapping[str, Known]) -> str:
    return scrub(text, {*active, *(entry.text for entry in known.values())})


def _proposal(
    text: str, view: _AdminView, request: web.Request, identity: Identity, reloader: ConfigReloader
) -> Proposal:
    def judge(loaded: Loaded) -> dict[str, str]:
        """Return an error, by path, for each setting that would remove the caller's own access to the configuration."""
        against = {}
        if runtime(reloader.effective(loaded.config)).grants.access(identity).role != "admin":
            against["grants"] = f'"{identity.login}" would no longer be an admin, and could not change this back'
        if cross_site(request.headers, loaded.config.server.hosts) is not None:
            host = request.headers["Host"]
            against["server.hosts"] = f'"{host}", as which you called the gateway, would no longer be one of its names'
        return against

    registry = reloader.gateway.registry
    return propose(text, reloader.path, view.known, active=view.active, plugins=registry.known, judge=judge)


async def _text(request: web.Request) -> str:
    """Return the member `config` of the body. Raises `Refusal` if the body cannot be used."""
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
    """Return the body. Raises `Refusal` if it is larger than `MAX_BODY`.

    The configured limit for bodies of calls does not apply. Otherwise a limit that is too low could not be corrected.
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
    """Raise `Refusal` if `If-Match` is not `*` and lacks the current tag. Weak tags never match (RFC 9110, 13.1.1)."""
    given = request.headers.get("If-Match")
    if given is None:
        raise Refusal(428, "If-Match is missing; send the ETag of the configuration that this one is made from")
    if given.strip() == "*":
        return
    if not any(tag.value == etag and not tag.is_weak for tag in request.if_match or ()):
        raise Refusal(412, "the configuration is another one by now; read it again", headers={"etag": f'"{etag}"'})


def _answer(view: _AdminView, request: web.Request | None = None) -> web.Response:
    headers = {"etag": f'"{view.etag}"', "cache-control": "no-store"}
    if request is not None and not view.error:
        given = request.headers.get("If-None-Match", "").strip()
        if given == "*" or any(tag.value == view.etag for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
    return _json({"config": view.text, "error": view.error}, headers)


def _invalid(errors: tuple[Finding, ...]) -> Refusal:
    return Refusal(422, f"the configuration is not valid: {errors[0].message}", list(map(_error, errors)))


def _error(finding: Finding) -> dict[str, Any]:
    return {
        "path": finding.path,
        "line": finding.line,
        "column": finding.column,
        "severity": finding.severity,
        "message": finding.message,
    }


def _audit(handler: Handler) -> Handler:
    """Return a handler that also logs the refusals of `handler`."""

    @wraps(handler)
    async def auditing(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            identity = identity_of(request)
            request.app[GATEWAY].log.warning(
                "config.save_refused",
                who=identity.login if identity else "",
                node=identity.node if identity else "",
                request_id=request[REQUEST_ID],
                status=refusal.status,
                reason=refusal.detail,
                paths=[error["path"] for error in refusal.errors or ()][:MAX_PATHS],
            )
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
