"""GET /api/explain and /api/whoami: why a caller may or may not use a model or send a direct request, and the identity
of a caller.

This file decides who may ask about whom. The package `gateway.call.explain` makes the explanations. Callers without a
role may use both routes, because they need an explanation most. Unidentified callers do not reach the routes, because
`call/guard.py` refuses their requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.access.identity.modes import Modes
from gateway.call.context import GATEWAY, identity_of
from gateway.call.explain.direct import DirectExplanation, NoSuchRequest, explain_direct, own_direct_view
from gateway.call.explain.explain import (
    POLICY_UNKNOWN,
    Explanation,
    NoSuchCaller,
    explain,
    own_view,
    somebody,
)
from gateway.call.guard import json_error
from gateway.call.runtime import Runtime

PARAMETERS: Final = frozenset({"model", "direct", "as", "group", "tag"})

Handler = Callable[[web.Request], Awaitable[web.Response]]


PATHS: Final = ("/api/explain", "/api/whoami")


def routes(modes: Modes) -> list[web.RouteDef]:
    """Return the routes of this file. `modes` has the identity mode of each listener."""
    return [web.get(path, handler) for path, handler in zip(PATHS, (show_explanation, _whoami(modes)), strict=True)]


async def show_explanation(request: web.Request) -> web.Response:
    caller = identity_of(request)
    if caller is None:
        return json_error(403, "access denied: no role granted")
    if unknown := sorted(set(request.query) - PARAMETERS):
        return json_error(400, f"{unknown[0][:50]}: is no parameter; there are model, direct, as, group and tag")
    if request.query.get("as") == "":
        return json_error(400, "as: is empty; name a login, or leave it out")
    asked = _asked(request.query)
    if asked is None:
        return json_error(400, "model: is missing; ask for /api/explain?model=NAME, or for direct=REQUEST")
    runtime = request.app[GATEWAY].runtime
    admin = runtime.grants.access(caller).role == "admin"
    if _is_self(request, caller):
        try:
            return _json(await asyncio.to_thread(asked.whole if admin else asked.own, runtime, caller, asked.about))
        except NoSuchRequest as error:
            return json_error(400, f"direct: {error}")
    if not admin:
        return json_error(403, "access denied: only an admin may ask about others; leave out as, group and tag")
    query = request.query
    try:
        other = somebody(query.get("as", ""), query.getall("group", []), query.getall("tag", []))
    except NoSuchCaller as error:
        return json_error(400, f"as: {error}")
    try:
        return _json(await asyncio.to_thread(asked.whole, runtime, other, asked.about, note=POLICY_UNKNOWN))
    except NoSuchRequest as error:
        return json_error(400, f"direct: {error}")


class _Asked(NamedTuple):
    """The subject of an explanation: a model, or a direct request (a request to a path below `/direct`)."""

    about: str
    """The name of the model, or the method and path of the request."""
    whole: Callable[..., Explanation | DirectExplanation]
    """The function that makes the explanation for admins."""
    own: Callable[[Runtime, Identity, str], Explanation | DirectExplanation]
    """The function that makes the explanation for callers without the admin role, who may ask only about themselves."""


def _asked(query: Mapping[str, str]) -> _Asked | None:
    """Return what the query of the URL asks about: a direct request, or a model. Return None if it names neither."""
    if direct := query.get("direct", ""):
        return _Asked(direct, explain_direct, own_direct_view)
    model = query.get("model", "")
    return _Asked(model, explain, own_view) if model else None


def _is_self(request: web.Request, caller: Identity) -> bool:
    """Return whether the request asks only about the caller: no `group`, no `tag`, and no login (`as`) of somebody
    else.
    """
    named = {"group", "tag"} & set(request.query)
    return not named and request.query.get("as", caller.login) == caller.login


def _whoami(modes: Modes) -> Handler:
    async def whoami(request: web.Request) -> web.Response:
        caller = identity_of(request)
        if caller is None:
            return json_error(403, "access denied: no role granted")
        runtime = request.app[GATEWAY].runtime
        transport = request.transport
        listener = modes.listener(transport.get_extra_info("sockname")) if transport else None
        models = await asyncio.to_thread(_usable, runtime, caller)
        return _json(
            {
                "login": caller.login,
                "groups": caller.groups,
                "tags": caller.tags,
                "node": caller.node,
                "mode": listener.identity if listener else None,
                "role": runtime.grants.access(caller).role,
                "models": models,
                "policy_grants": len(caller.capabilities),
            }
        )

    return whoami


def _usable(runtime: Runtime, caller: Identity) -> int:
    """Return the number of different models that a caller may use. This takes long if there are thousands."""
    return len({offer.model for offer in runtime.catalog.visible(runtime.grants.access(caller))})


def _json(data: Explanation | DirectExplanation | dict[str, Any]) -> web.Response:
    headers = {"cache-control": "no-store"}
    return web.Response(body=orjson.dumps(data), content_type="application/json", headers=headers)
