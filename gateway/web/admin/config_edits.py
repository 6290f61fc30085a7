"""Reads, checks and saves the configuration for an admin, for the API (`config.py`) and the page Configuration.

- Secrets are never shown. Placeholders (`config/document/redact.py`) replace them. When a text with placeholders is
  saved, each placeholder is replaced by its secret.
- If the caller loses the admin role while a save runs, nothing is saved.
- `config/edit.py` checks the new text. The reloader writes the text to the file and applies the new configuration.
- This file reads no body and answers no request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.context import GATEWAY, REQUEST_ID, ConfigReloader, NotTaken, Who, identity_of
from gateway.call.guard import cross_site
from gateway.call.runtime import runtime
from gateway.config.document import atomic_file
from gateway.config.document.hujson import HujsonError, parse
from gateway.config.document.redact import Known, redact, scrub
from gateway.config.edit import Proposal, propose
from gateway.config.findings import ConfigError, Finding
from gateway.config.load import Loaded
from gateway.config.model import active_secrets
from gateway.store.base import StoreFailed
from gateway.web.admin.problems import REPLACED, Refusal

MAX_PATHS: Final = 100
"""Maximum number of findings whose paths are logged when a configuration is refused."""


class ConfigView(msgspec.Struct, frozen=True):
    """The content of the configuration file, and the text that an admin sees of it."""

    data: bytes
    """The content of the file, with its secrets."""
    text: str
    """The text in which placeholders replace the secrets."""
    error: str
    """The reason why the gateway does not use the content of the file. The value is "" if it uses the content."""
    etag: str
    known: Mapping[str, Known]
    """The secret that each placeholder replaces, by the text of the placeholder."""
    active: frozenset[str]
    """The secrets of the configuration in use."""


def admin_of(request: web.Request) -> tuple[Identity, ConfigReloader]:
    """Return the caller and the reloader.

    Raises `Refusal` if the caller is no admin, or if the configuration was not read from a file.
    """
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


async def admin_view(reloader: ConfigReloader) -> ConfigView:
    """Return the configuration as an admin may see it: the file, or the text in use if the file is not valid HuJSON.

    Raises `Refusal` if the file cannot be read.
    """
    gateway, served = reloader.gateway, reloader.loaded
    error, active = gateway.config_error, active_secrets(gateway.runtime.config)
    try:
        data = await asyncio.to_thread(atomic_file.read, reloader.path)
    except (OSError, ValueError) as unread:
        raise Refusal(409, f"{reloader.path} cannot be read: {getattr(unread, 'strerror', None) or unread}") from None
    return await asyncio.to_thread(_read_as, data, reloader, served, error, active)


def _read_as(data: bytes, reloader: ConfigReloader, served: Loaded, error: str, active: frozenset[str]) -> ConfigView:
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
    return ConfigView(data, view.text, _scrub(error, active, known), tag, known, active)


def _without_secrets(finding: Finding, view: ConfigView) -> Finding:
    path, message = (_scrub(text, view.active, view.known) for text in (finding.path, finding.message))
    return replace(finding, path=path, message=message)


def _scrub(text: str, active: frozenset[str], known: Mapping[str, Known]) -> str:
    return scrub(text, {*active, *(entry.text for entry in known.values())})


def proposal_of(
    text: str, view: ConfigView, request: web.Request, identity: Identity, reloader: ConfigReloader
) -> Proposal:
    """Return the change that a text would make to the configuration, and the errors that prevent a save of the text.

    Call this in a thread, because the check of the text takes long.
    """

    def judge(loaded: Loaded) -> dict[str, str]:
        """Return an error for each setting that would take away the caller's own access to the configuration, by the
        path of the setting.
        """
        against = {}
        if runtime(reloader.effective(loaded.config)).grants.access(identity).role != "admin":
            against["grants"] = f'"{identity.login}" would no longer be an admin, and could not change this back'
        if cross_site(request.headers, loaded.config.server.hosts) is not None:
            host = request.headers["Host"]
            against["server.hosts"] = f'"{host}", as which you called the gateway, would no longer be one of its names'
        return against

    registry = reloader.gateway.registry
    return propose(text, reloader.path, view.known, active=view.active, plugins=registry.known, judge=judge)


async def save_text(request: web.Request, text: str, view: ConfigView) -> None:
    """Save the text as the configuration file, if the file still has the content that `view` has. Raises `Refusal` if
    the text is not saved.
    """
    identity, reloader = admin_of(request)
    if reloader.gateway.follower.is_replaced:
        raise Refusal(503, REPLACED)
    who = Who(identity.login, identity.node, request[REQUEST_ID])
    try:
        await asyncio.to_thread(atomic_file.check, reloader.path)
        proposal = await asyncio.to_thread(proposal_of, text, view, request, identity, reloader)
        if proposal.errors:
            raise _invalid(proposal.errors)
        await reloader.save(proposal.text, view.data, who, lambda: admin_of(request))
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
    except StoreFailed as error:
        raise Refusal(503, f"the configuration is kept in the database, which is away: {error}") from None
    except OSError as error:
        raise Refusal(500, f"the file cannot be written: {error.strerror}") from None


def _invalid(errors: tuple[Finding, ...]) -> Refusal:
    return Refusal(422, f"the configuration is not valid: {errors[0].message}", list(map(error_values, errors)))


def error_values(finding: Finding) -> dict[str, Any]:
    """Return a finding (an error or a warning about the configuration) in the form of the API."""
    return {
        "path": finding.path,
        "line": finding.line,
        "column": finding.column,
        "severity": finding.severity,
        "message": finding.message,
    }


def log_refusal(request: web.Request, refusal: Refusal) -> None:
    """Log that a save was refused."""
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
