"""The headers of responses to calls. Text chosen by clients, such as names of fields, is percent-encoded in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from gateway.call.chain import Call, Inbound

MAX_HEADER: Final = 2000
"""Maximum number of characters of a header that lists dropped fields or quotas. The call's record has the full list."""


def response_headers(
    inbound: Inbound, call: Call | None, headers: Mapping[str, str], *, shows_usage: bool = False
) -> dict[str, str]:
    """Return the headers of a response: those that the client's API always has, then `headers`, then the gateway's own.

    `shows_usage` is True for a complete response that this gateway wrote. The API may have headers for the usage of
    such a response. `call` is None for a request that was refused before it was parsed.
    """
    facts = call.facts if shows_usage and call is not None else None
    usual = inbound.flag.reply_headers(inbound.id, facts.parts[0].usage if facts and facts.reported else None)
    return {**usual, **headers, **own_headers(inbound, call)}


def own_headers(inbound: Inbound, call: Call | None) -> dict[str, str]:
    """Return the headers that the gateway adds to every response to a call."""
    own = {"x-request-id": inbound.id, "server": "irisgate"}
    if call is not None and call.attempt is not None and call.attempt.dropped:
        own["x-irisgate-dropped"] = _header_value(", ".join(call.attempt.dropped))
    if call is not None and call.reservation is not None and call.reservation.notice:
        own["x-irisgate-quota"] = _header_value(call.reservation.notice)
    return own


def stream_headers(call: Call) -> dict[str, str]:
    """Return the headers of a streamed response if the provider's own headers are not passed on."""
    return {"content-type": call.flag.stream_type(call.request), "cache-control": "no-cache"}


def made_here(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a JSON response that the gateway itself wrote: the content type, and those in `headers`
    that begin with `x-irisgate-`.
    """
    own = {name: value for name, value in headers.items() if name.startswith("x-irisgate-")}
    return {"content-type": "application/json", **own}


def _header_value(text: str) -> str:
    """Return text in a safe form for a header: percent-encoded, and cut off at `MAX_HEADER`."""
    safe = quote(text[: MAX_HEADER + 1], safe="/, !#$&'()*+-.:;<=>?@[]^_`{|}~")
    return safe if len(safe) <= MAX_HEADER else f"{safe[:MAX_HEADER]}..."
