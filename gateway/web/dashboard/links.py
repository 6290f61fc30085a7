"""The addresses of pages of sessions and calls. Links are made here alone, because ids may contain any character."""

from __future__ import annotations

from urllib.parse import urlencode

from gateway.contract.session_ids import valid_id


def session_href(session_id: str, identity: str | None = None, cursor: str = "") -> str:
    """Return the address of a session's page.

    `identity` is the login whose session it is. Admins need it, because two callers may use the same id. `cursor` is
    the place in the list of calls, "" for the newest calls. An id with characters such as `/` is a parameter of the
    address: browsers shorten paths that contain `..`, and proxies decode `%2F` in paths.
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
    """Return the address of a call's page."""
    return f"/ui/calls?{urlencode({'id': call_id}, errors='replace')}"
