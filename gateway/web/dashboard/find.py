"""GET /ui/find: searches pages, models, people and sessions by a part of their name.

The command palette gets the results as JSON. They can also be shown as a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple
from urllib.parse import urlencode

import orjson
from aiohttp import web

from gateway.call.context import GATEWAY
from gateway.store.base import Session, SessionQuery
from gateway.store.reports.values import Names
from gateway.web.admin.reports import reports_of
from gateway.web.admin.sessions import scope
from gateway.web.dashboard.frame import NAVIGATION, page
from gateway.web.dashboard.links import session_href
from gateway.web.query_parameters import check_names

MOST: Final = 20
"""Maximum number of results."""
MOST_OF_KIND: Final = 8
"""Maximum number of results of one kind, such as models. There is no such limit for results that are pages."""
SESSIONS: Final = 200
"""Number of newest sessions that are searched."""


class Result(NamedTuple):
    """A page that the search has found."""

    kind: str
    name: str
    href: str


async def find(request: web.Request) -> web.Response:
    """Return the results as JSON if the client asks for it, else as a page."""
    seen = scope(request)
    check_names(request.query, ("q",))
    text = request.query.get("q", "").strip()[:200]
    names = await reports_of(request).names()
    sessions = await request.app[GATEWAY].store.sessions(SessionQuery(seen.identity, SESSIONS)) if text else None
    rows = sessions.rows if sessions else ()
    results = tuple(islice(_results(text.casefold(), names, rows, admin=seen.admin), MOST))
    if "application/json" in request.headers.get("Accept", ""):
        body = orjson.dumps({"results": [result._asdict() for result in results]})
        return web.Response(body=body, content_type="application/json", headers={"cache-control": "no-store"})
    return await page(request, "find.html", text=text, results=results)


def _results(text: str, names: Names, sessions: Sequence[Session], *, admin: bool) -> Iterator[Result]:
    """Yield the pages, models, people, clients and sessions whose name contains `text`. If `text` is empty, yield
    pages, models and people only.
    """
    entries = [entry for _, group in NAVIGATION for entry in group]
    pages = (Result("page", entry.label, entry.path) for entry in entries if admin or not entry.admins)
    kinds = [
        pages,
        (Result("model", name, _filtered("model", name)) for name in names.get("model", ())),
    ]
    if admin:
        kinds.append(Result("person", name, _filtered("user", name)) for name in names.get("user", ()))
    if text:
        kinds.append(Result("client", name, _filtered("agent", name)) for name in names.get("agent", ()))
        kinds.append(
            Result("session", session.id, session_href(session.id, session.identity if admin else None))
            for session in sessions
        )
    for results in kinds:
        matching = (result for result in results if result.name and text in result.name.casefold())
        yield from matching if results is pages else islice(matching, MOST_OF_KIND)


def _filtered(name: str, value: str) -> str:
    return f"/ui/?{urlencode({name: value})}"
