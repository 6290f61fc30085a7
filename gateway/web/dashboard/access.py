"""The page Access: whether a login may use a model or send a direct request, and by which grant.

If no grant allows it, the page shows a grant that would allow it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.context import GATEWAY, identity_of
from gateway.call.explain.direct import DirectExplanation, NoSuchRequest, explain_direct, own_direct_view
from gateway.call.explain.explain import POLICY_UNKNOWN, Explanation, NoSuchCaller, explain, own_view, somebody
from gateway.upstream.catalog import Offer
from gateway.web.admin.sessions import Denied, scope
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.samples import granted
from gateway.web.query_parameters import check_names


async def access(request: web.Request) -> web.Response:
    """Return the page Access. Only an admin may ask for an explanation about others.

    An explanation about others uses only the grants of the configuration. The gateway learns a caller's tailnet grants
    only from that caller's connection.
    """
    seen = scope(request)
    check_names(request.query, ("as", "model", "direct"))
    caller = identity_of(request)
    assert caller is not None, "a caller with a role is identified"
    login = request.query.get("as", "").strip() or caller.login
    model = request.query.get("model", "").strip()
    if login != caller.login and not seen.admin:
        raise Denied("access denied: only an admin may ask about others")
    direct = request.query.get("direct", "").strip()
    explanation, of_request, mistake = None, None, ""
    try:
        if model:
            explanation = await _explain(request, caller, login, model, admin=seen.admin)
        if direct:
            of_request = await _explain_direct(request, caller, login, direct, admin=seen.admin)
    except (NoSuchCaller, NoSuchRequest) as error:
        mistake = str(error)
    runtime = request.app[GATEWAY].runtime
    offers = runtime.catalog.offers if seen.admin else ()
    mine = await granted(request)
    names = await asyncio.to_thread(_names, offers, mine)
    return await page(
        request, "access.html", login_asked=login, model=model, direct=direct, explanation=explanation,
        of_request=of_request, mistake=mistake, names=names,
    )  # fmt: skip


def _names(offers: Iterable[Offer], granted: Iterable[tuple[str, str]]) -> dict[str, None]:
    return dict.fromkeys([*(offer.model for offer in offers), *(name for _, name in granted)])


async def _explain(request: web.Request, caller: Identity, login: str, model: str, *, admin: bool) -> Explanation:
    """Return the explanation of why a login may or may not use a model.

    A thread makes the explanation, because checking all grants and all names takes long.
    """
    runtime = request.app[GATEWAY].runtime
    if not admin:
        return await asyncio.to_thread(own_view, runtime, caller, model)
    if login == caller.login:
        return await asyncio.to_thread(explain, runtime, caller, model)
    return await asyncio.to_thread(explain, runtime, somebody(login), model, note=POLICY_UNKNOWN)


async def _explain_direct(
    request: web.Request, caller: Identity, login: str, direct: str, *, admin: bool
) -> DirectExplanation:
    """Return the explanation of why a login may or may not send a direct request (a request to a path below `/direct`).

    Raises `NoSuchRequest` if the text `direct` is no method and path.
    """
    runtime = request.app[GATEWAY].runtime
    if not admin:
        return await asyncio.to_thread(own_direct_view, runtime, caller, direct)
    if login == caller.login:
        return await asyncio.to_thread(explain_direct, runtime, caller, direct)
    return await asyncio.to_thread(explain_direct, runtime, somebody(login), direct, note=POLICY_UNKNOWN)
