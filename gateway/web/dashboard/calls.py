"""The page of one call: its attempts, its times, the arithmetic of its cost, and the conversation.

- The call's id is a query parameter (`links.py`).
- An admin sees the bodies of somebody else's call only if the query has `bodies`. Reading them is logged, as in
  `web/admin/bodies.py`.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.context import GATEWAY, Gateway, identity_of
from gateway.call.explain.explain import POLICY_UNKNOWN, NoSuchCaller, Offered, explain, own_view, somebody
from gateway.contract.errors import NOT_FOUND, PERMISSION
from gateway.contract.record import Record
from gateway.web.admin.sessions import Missing, Scope, scope
from gateway.web.dashboard.arithmetic import arithmetic
from gateway.web.dashboard.conversation import Conversation, conversation
from gateway.web.dashboard.errors import ADVICE
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.links import call_href, session_href
from gateway.web.query_parameters import BadQuery, check_names


class Granted(NamedTuple):
    """Whether the caller of a call may use its model at its provider today."""

    offer: Offered | None
    """The call's model at its provider. It is None if the model is no longer configured or not granted."""
    note: str


class Said(NamedTuple):
    """The bodies of a call's request and reply, as the page shows them."""

    conversation: Conversation | None
    """The bodies as a conversation. It is None if the page does not show them."""
    href: str
    """The URL of the page with the bodies. It is "" if no bodies are stored, or if they are shown already."""


async def call(request: web.Request) -> web.Response:
    seen = scope(request)
    check_names(request.query, ("id", "identity", "bodies"))
    name = request.query.get("id", "")
    if not name:
        raise BadQuery("id: is missing; open a call from the page of its session")
    gateway, caller = request.app[GATEWAY], identity_of(request)
    assert caller is not None, "a caller with a role is identified"
    record = await gateway.store.call(seen.identity, name)
    if record is None:
        raise Missing(f'There is no call "{name[:200]}", it is not yours, or it is older than records are kept.')
    granted, said = await asyncio.gather(
        asyncio.to_thread(_granted, gateway, caller, record, admin=seen.admin),
        _said(gateway, seen, record, wanted="bodies" in request.query),
    )
    return await page(
        request, "call.html",
        call=record, arithmetic=arithmetic(gateway, record), session_href=_session_href(record, admin=seen.admin),
        granted=granted, said=said, current="/ui/sessions", advice=ADVICE.get(record.error, ""),
        access_href=_access_href(record, admin=seen.admin),
    )  # fmt: skip


def _session_href(record: Record, *, admin: bool) -> str:
    """Return the URL of the page of the call's session, or "" if the call is in no session."""
    if not record.session_id:
        return ""
    return session_href(record.session_id, record.identity if admin else None)


def _access_href(record: Record, *, admin: bool) -> str:
    """Return the URL of the page that explains the missing grant, or "" if the call was not refused for this reason."""
    if record.error not in {PERMISSION, NOT_FOUND} or record.outcome != "refused" or not record.model:
        return ""
    login = {"as": record.identity} if admin and record.identity else {}
    return f"/ui/access?{urlencode({**login, 'model': record.model}, errors='replace')}"


def _granted(gateway: Gateway, caller: Identity, record: Record, *, admin: bool) -> Granted | None:
    """Return whether the caller of a recorded call may use the call's model at its provider today.

    Return None if the call reached no provider, or if it was a direct call (to a path below `/direct`), which needs no
    grant for a model. A reader who is no admin learns only about grants of their own. Call this in a thread, because
    checking all grants takes long.
    """
    if not record.provider or not record.model or record.direct is not None:
        return None
    model, runtime = f"{record.provider}/{record.model}", gateway.runtime
    try:
        if not admin:
            explanation = own_view(runtime, caller, model)
        elif record.identity == caller.login:
            explanation = explain(runtime, caller, model)
        else:
            explanation = explain(runtime, somebody(record.identity), model, note=POLICY_UNKNOWN)
    except NoSuchCaller:
        return Granted(None, "")
    offers = [offer for offer in explanation.offers if offer.state == "allowed"]
    return Granted(offers[0] if offers else None, explanation.note)


async def _said(gateway: Gateway, seen: Scope, record: Record, *, wanted: bool) -> Said:
    stored = await gateway.bodies.of(record.id, seen.identity)
    if stored is None:
        return Said(None, "")
    if stored.identity != seen.login:
        if not wanted:
            return Said(None, f"{call_href(record.id)}&bodies=1")
        gateway.log.info("bodies.read", request_id=stored.id, identity=stored.identity, by=seen.login)
    flag = gateway.registry.flags.get(record.api)
    return Said(await asyncio.to_thread(conversation, flag, record, stored), "")
