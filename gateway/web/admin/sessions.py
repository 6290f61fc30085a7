"""GET /api/sessions and /api/calls: the recorded calls. Users read their own calls, and admins read all calls.

- Lists are `{"sessions": [...], "next": CURSOR | null}`, newest first, with `?limit=` and `?cursor=`.
- An admin may restrict a list to one login by `?identity=`. Every caller may filter by fields such as `?model=`
  (`filters.py`).
- `scope` decides who may see which rows. The usage route and the pages use it too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from gateway.call.context import GATEWAY, identity_of
from gateway.contract.record import Record
from gateway.store.base import HEADER, Ambiguous, BadCursor, Page, SessionQuery, StoreFailed, TooManyCalls, rfc3339
from gateway.web.admin.filters import CALL_FILTERS, PAGING, SESSION_FILTERS, filters
from gateway.web.header_terms import HeaderRights, parse_term
from gateway.web.query_parameters import BadQuery, check_names

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
NO_ROLE: Final = "access denied: no role granted"
NOT_YOURS: Final = "access denied: only an admin may read what others called"

Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes() -> list[web.RouteDef]:
    return [
        web.get("/api/sessions", errors_as_json(sessions)),
        web.get("/api/sessions/{id}", errors_as_json(session)),
        web.get("/api/sessions/{id}/calls", errors_as_json(calls)),
        web.get("/api/calls", errors_as_json(calls)),
        web.get("/api/calls/{id}", errors_as_json(call)),
    ]


class Denied(PermissionError):
    """The error for a caller who may not read the requested rows."""


class Missing(LookupError):
    """The error for a session or call that does not exist or belongs to somebody else.

    Both cases get the same reply.
    """


class Scope(msgspec.Struct, frozen=True):
    """The caller of a request (`login` and `role`), and the login whose rows the request reads (`identity`)."""

    login: str
    role: str
    identity: str | None
    """The login whose rows are read. It is None for the rows of all logins."""

    @property
    def admin(self) -> bool:
        return self.role == "admin"


def scope(request: web.Request, parameter: str = "identity") -> Scope:
    """Return the scope of a request. `parameter` is the name of the query parameter that has the login whose rows are
    requested.

    Raises `Denied` if the caller has no role, or if a caller who is no admin names another login.
    """
    identity = identity_of(request)
    role = request.app[GATEWAY].runtime.grants.access(identity).role if identity else None
    if identity is None or role is None:
        raise Denied(NO_ROLE)
    wanted = request.query.get(parameter)
    if role == "admin":
        return Scope(identity.login, role, wanted)
    if wanted not in {None, identity.login}:
        raise Denied(NOT_YOURS)
    return Scope(identity.login, role, identity.login)


def limit_of(query: Mapping[str, str]) -> int:
    """Return the query's `limit`, the maximum number of rows. Raises `BadQuery` for a wrong `limit`."""
    text = query.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_LIMIT):
        raise BadQuery(f'limit: "{text[:50]}" is not a whole number from 1 to {MAX_LIMIT}')
    return int(text)


def header_rights(request: web.Request) -> HeaderRights:
    """Return the headers by which the caller of a request may filter. The caller must have been identified."""
    identity, runtime = identity_of(request), request.app[GATEWAY].runtime
    assert identity is not None, "a caller with a role is identified"
    return HeaderRights(runtime.config.filterable_headers, runtime.grants.access(identity).may_filter_by)


def require_term(rights: HeaderRights, term: str) -> None:
    """Raise `Denied` if the reader may not filter by a header term (`x-team` or `x-team:alpha`).

    Raise `BadQuery` if the header of the term is not recorded.
    """
    if refusal := rights.refusal(term):
        raise Denied(refusal)


def _header(request: web.Request) -> dict[str, str | int]:
    """Return the filter by a recorded header that the query asks for, or {} if it asks for none."""
    if not (text := request.query.get(HEADER)):
        return {}
    require_term(header_rights(request), term := parse_term(text))
    return {HEADER: term}


def _api_scope(request: web.Request) -> Scope:
    """Return the scope of a request to the API, which says whose rows the request may read.

    Raises `Denied` if the caller has no role, or if a caller who is no admin names another login. Raises `BadQuery` for
    an empty login. Only the pages accept an empty login, because their forms send empty fields.
    """
    if request.query.get("identity") == "":
        raise BadQuery("identity: is empty; name a login, or leave it out")
    return scope(request)


async def sessions(request: web.Request) -> web.Response:
    seen = _api_scope(request)
    query = request.query
    check_names(query, (*PAGING, "identity", *SESSION_FILTERS, HEADER))
    store = request.app[GATEWAY].store
    where = filters(query, SESSION_FILTERS) | _header(request)
    page = await store.sessions(SessionQuery(seen.identity, limit_of(query), query.get("cursor"), where))
    return _json({"sessions": [row.as_dict() for row in page.rows], "next": page.next})


async def session(request: web.Request) -> web.Response:
    seen = _api_scope(request)
    name = request.match_info["id"]
    row = await request.app[GATEWAY].store.session(seen.identity, name)
    if row is None:
        raise Missing(f'session "{name[:200]}" not found')
    return _json(row.as_dict())


async def calls(request: web.Request) -> web.Response:
    """Return the calls of one session, or of all sessions."""
    seen = _api_scope(request)
    store = request.app[GATEWAY].store
    query = request.query
    check_names(query, (*PAGING, "identity", *CALL_FILTERS, HEADER))
    where = filters(query, CALL_FILTERS) | _header(request)
    page: Page[Record] = await store.calls(
        seen.identity, request.match_info.get("id"), limit_of(query), query.get("cursor"), where
    )
    return _json({"calls": [_call(row) for row in page.rows], "next": page.next})


async def call(request: web.Request) -> web.Response:
    """Return the whole record of one call."""
    seen = _api_scope(request)
    name = request.match_info["id"]
    record = await request.app[GATEWAY].store.call(seen.identity, name)
    if record is None:
        raise Missing(f'call "{name[:200]}" not found')
    return _json(_call(record))


def _call(record: Record) -> dict[str, Any]:
    return {**record.as_dict(), "at": rfc3339(record.at)}


def errors_as_json(handler: Handler) -> Handler:
    """Return a handler that converts the exceptions of `handler` to error responses in JSON."""

    @wraps(handler)
    async def answering(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Denied as error:
            return _json({"error": str(error)}, 403)
        except Missing as error:
            return _json({"error": {"message": str(error)}}, 404)
        except BadCursor as error:
            return _json({"error": {"message": f"cursor: {error}"}}, 400)
        except BadQuery as error:
            return _json({"error": {"message": str(error)}}, 400)
        except TooManyCalls as error:
            return _json({"error": {"message": f"{HEADER}: {error}"}}, 400)
        except Ambiguous as error:
            return _json({"error": {"message": ambiguous(error), "identities": list(error.identities)}}, 409)
        except StoreFailed as error:
            request.app[GATEWAY].log.error("store.read_failed", reason=str(error))
            return _json({"error": {"message": "the store cannot be read now; the gateway's log says why"}}, 503)

    return answering


def ambiguous(error: Ambiguous) -> str:
    return f"{error}: add ?identity= with one of {', '.join(error.identities)}"


def _json(data: Any, status: int = 200) -> web.Response:
    headers = {"cache-control": "no-store"}
    return web.Response(status=status, body=orjson.dumps(data), content_type="application/json", headers=headers)
