"""GET /api/usage: sums over calls, grouped by user, model, provider, agent, day or hour.

Users see sums over their own calls, and admins see sums over all calls (`sessions.scope`). If a grant lets the caller
filter by a recorded header, the caller may ask for the sums of the calls with this header.
`gateway/web/usage/parameters.py` reads the parameters, and `gateway/web/usage/formats.py` writes the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from time import time

from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.store.base import UsageRow
from gateway.web.admin.sessions import errors_as_json, header_rights, require_term, scope
from gateway.web.query_parameters import BadQuery
from gateway.web.usage.formats import as_csv, as_json, file_name, truncated
from gateway.web.usage.parameters import BadUsage, UsageRequest, parse_parameters


def routes() -> list[web.RouteDef]:
    return [web.get("/api/usage", errors_as_json(usage))]


async def usage(request: web.Request) -> web.Response:
    seen = scope(request, "user")
    wanted = _usage_request(request)
    if wanted.query.header is not None:
        require_term(header_rights(request), wanted.query.header)
    query = replace(wanted.query, identity=seen.identity or None)
    rows = await request.app[GATEWAY].store.usage(query)
    # writing thousands of rows takes tens of milliseconds
    body = await asyncio.to_thread(as_csv if wanted.format == "csv" else as_json, wanted, rows)
    return _csv(body, wanted, rows) if wanted.format == "csv" else _json(body)


def _usage_request(request: web.Request) -> UsageRequest:
    """Return the usage request in the query parameters. Raises `BadQuery` if a parameter is wrong."""
    query = request.query
    for name in query:
        if len(query.getall(name)) > 1:
            raise BadQuery(f"{name[:50]}: stands there more than once; keep one of them")
    try:
        return parse_parameters(query, now=time())
    except BadUsage as error:
        raise BadQuery(str(error)) from None


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"cache-control": "no-store"})


def _csv(body: bytes, wanted: UsageRequest, rows: Sequence[UsageRow]) -> web.Response:
    headers = {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="{file_name(wanted)}"',
        **({"x-irisgate-truncated": "true"} if truncated(rows) else {}),
    }
    return web.Response(body=body, content_type="text/csv", charset="utf-8", headers=headers)
