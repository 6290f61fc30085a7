"""GET /api/calls/{id}/bodies: the request and the reply of a call, if the gateway stores bodies.

Callers may read the bodies of their own calls, and admins may read all bodies. When an admin reads another caller's
bodies, this is logged. The reply is the same 404 for a call that does not exist, that may not be read, or that has no
bodies. So the reply reveals nothing about other callers' calls.
"""

from __future__ import annotations

import orjson
from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.web.admin.sessions import Missing, errors_as_json, scope


def routes() -> list[web.RouteDef]:
    return [web.get("/api/calls/{id}/bodies", errors_as_json(bodies))]


async def bodies(request: web.Request) -> web.Response:
    seen = scope(request)
    gateway = request.app[GATEWAY]
    name = request.match_info["id"]
    stored = await gateway.bodies.of(name, seen.identity)
    if stored is None:
        raise Missing(f'no bodies of a call "{name[:200]}" are kept')
    if stored.identity != seen.login:
        gateway.log.info("bodies.read", request_id=stored.id, identity=stored.identity, by=seen.login)
    body = orjson.dumps({"request": stored.request.as_dict(), "reply": stored.reply.as_dict()})
    return web.Response(body=body, content_type="application/json", headers={"cache-control": "no-store"})
