"""The URLs of the pages of sessions and calls. All links to these pages are made here, so that every id is escaped."""

from __future__ import annotations

from urllib.parse import urlencode

from gateway.contract.session_ids import valid_id


def session_href(session_id: str, identity: str | None = None, cursor: str = "") -> str:
    """Return the URL of a session's page.

    `identity` is the session's login. Admins need it, because two callers may use the same id. `cursor` is the position
    in the list of calls. It is "" for the newest calls.

    An id with characters such as `/` becomes a query parameter. In a path, browsers would shorten `..`, and proxies
    would decode `%2F`.
    """
    parameters = {} if identity is None else {"identity": identity}
    if cursor:
        parameters["cursor"] = cursor
    if valid_id(session_id):
        path = f"/ui/sessions/{session_id}"
    else:
        path, parameters = "/ui/session", {"id": session_id, **parameters}
    return f"{path}?{urlencode(parameters, errors='replace')}" if parameters else path


def call_href(call_id: str) -> str:
    """Return the URL of a call's page."""
    return f"/ui/calls?{urlencode({'id': call_id}, errors='replace')}"
