"""GET /api/usage: sums of calls by user, model, provider, agent, day or hour; one's own, or everybody's for admins.

What the parameters mean is in `gateway/web/usage/question.py`, what the answer looks like in
`gateway/web/usage/shown.py`; whose calls a caller may see is decided by `sessions.scope`, as for every list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from time import time

from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.store.base import UsageRow
from gateway.web.admin.filters import BadQuery
from gateway.web.admin.sessions import scope, told
from gateway.web.usage.question import BadUsage, Wanted, wanted
from gateway.web.usage.shown import as_csv, as_json, file_name, truncated


def routes() -> list[web.RouteDef]:
    return [web.get("/api/usage", told(usage))]


async def usage(request: web.Request) -> web.Response:
    seen = scope(request, "user")
    asked = _wanted(request)
    query = replace(asked.query, identity=seen.identity or None)
    rows = await request.app[GATEWAY].store.usage(query)
    # thousands of rows are tens of milliseconds
    body = await asyncio.to_thread(as_csv if asked.format == "csv" else as_json, asked, rows)
    return _csv(body, asked, rows) if asked.format == "csv" else _json(body)


def _wanted(request: web.Request) -> Wanted:
    """Raises `BadQuery`."""
    query = request.query
    for name in query:
        if len(query.getall(name)) > 1:
            raise BadQuery(f"{name[:50]}: stands there more than once; keep one of them")
    try:
        return wanted(query, now=time())
    except BadUsage as error:
        raise BadQuery(str(error)) from None


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"cache-control": "no-store"})


def _csv(body: bytes, asked: Wanted, rows: Sequence[UsageRow]) -> web.Response:
    headers = {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="{file_name(asked)}"',
        **({"x-irisgate-truncated": "true"} if truncated(rows) else {}),
    }
    return web.Response(body=body, content_type="text/csv", charset="utf-8", headers=headers)
