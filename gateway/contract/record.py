"""The record of a call. The log, the store, the metrics and the API all use the names of its fields.

`tests/test_vocabulary.py` checks this. `Record.as_dict` returns the form for the log and the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from gateway.contract.flag import Part, Usage

NANODOLLARS = 1_000_000_000
"""Nanodollars in one US dollar. Money is counted in integer nanodollars, so that totals are exact."""


LOST: Final = "lost"
"""Outcome of a call that was running when the gateway was killed."""

_LAST: Final = 253_402_300_799
"""The largest `Moment`: the last second of the year 9999 in Unix time. Python's `datetime` has no later date."""
_MOST: Final = 2**53
Moment = Annotated[float, msgspec.Meta(ge=0, le=_LAST)]
Small = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Milliseconds = Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)]
"""A duration in milliseconds.

The types `Moment`, `Small` and `Milliseconds` have bounds, because the store and the web pages cannot represent larger
numbers. msgspec checks the bounds when it decodes a record.
"""


class Tried(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt of a call that took several attempts.

    >>> tried = Tried(provider="east", model="m", status=503, error="overloaded", cost=0, duration_ms=12.0)
    >>> tried.as_dict()["cost_usd"]
    0.0
    """

    provider: str
    key: str = ""
    """The name of the provider's API key, if the provider has several (`apikeys`)."""
    model: str
    status: Small = 0
    """The provider's HTTP status. It is 0 if there was no reply."""
    error: str = ""
    """The error code (`errors.py`). It is "" if the attempt succeeded."""
    error_native: str = ""
    """The provider's own name for the error, or the cause of a failed connection, such as `no_such_host`."""
    cost: int | None
    """The cost of the attempt in nanodollars. It is None if unknown."""
    estimated: bool = False
    duration_ms: Milliseconds

    def as_dict(self) -> dict[str, Any]:
        """Return the attempt as the API and the log show it."""
        return {
            "provider": self.provider,
            "key": self.key,
            "model": self.model,
            "status": self.status,
            "error": self.error,
            "error_native": self.error_native,
            "cost_usd": dollars(self.cost),
            "estimated": self.estimated,
            "duration_ms": round(self.duration_ms, 1),
        }


class Direct(msgspec.Struct, frozen=True, gc=False):
    """The request line and the sizes of a direct call: a request that the gateway forwards to a provider unchanged.

    >>> Direct("GET", "/direct/openai/v1/files", 0, 120).as_dict()["reply_bytes"]
    120
    """

    method: str
    path: str
    """The first 500 characters of the path, decoded. The query is left out, because it may contain an API key."""
    request_bytes: int
    """The size of the request's body in bytes."""
    reply_bytes: int = 0
    """The number of bytes of the reply's body that the provider has sent."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values as the API and the log show them."""
        return {
            "method": self.method,
            "path": self.path,
            "request_bytes": self.request_bytes,
            "reply_bytes": self.reply_bytes,
        }


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The record of one call, however the call ended."""

    id: str
    """The id of the call. The client gets it in the header `x-request-id`."""
    session_id: str
    at: Moment
    """The Unix time in seconds at which the request arrived."""
    identity: str
    node: str = ""
    """The stable id of the caller's node in the tailnet. It is "" if unknown."""
    provider: str
    """The provider's name. It is "" if the call was refused before a provider was chosen."""
    model: str
    """The name of the model at the provider. It is "" if the request could not be read.

    If the call was refused before the check of the grants, this is the name that the client sent.
    """
    served_model: str = ""
    """The model that wrote the reply, as the reply names it. It is "" if the reply names none."""
    api: str
    """The compatibility flag (API format) whose route the client used."""
    upstream_api: str
    """The compatibility flag (API format) of the request to the provider."""
    operation: str
    stream: bool
    status: Small
    """The HTTP status of the reply. It is 499 if the client closed the connection before the end of the reply."""
    outcome: str
    """The outcome of the call.

    - `ok`: success. `refused`: the gateway refused the call. `failed`: the provider failed.
    - `cancelled`: the client closed the connection.
    - `lost`: the gateway was killed while the call was running."""
    error: str
    """The error code (`errors.py`). It is "" without an error."""
    error_native: str
    """The provider's own name for the error, or the cause of a failed connection, such as `no_such_host`."""
    error_message: str = ""
    """The first 500 characters of the error message."""
    upstream_request_id: str = ""
    """The provider's id of the request, such as `x-amzn-requestid`, for the provider's support."""
    usage: Usage
    extra: Mapping[str, int] = {}
    """Counts of billed items other than tokens, such as `web_search`."""
    tier: str = ""
    """The service tier that served the call, as the provider names it. It is "" if the provider names none."""
    geo: str = ""
    """The region in which the model ran, if the region affects the price. It is "" otherwise."""
    parts: tuple[Part, ...] = ()
    """The separately billed parts of the call, the reply first. The value is () if the reply is the only part."""
    reported: bool
    """True if the provider reported `usage`."""
    cost: int | None
    """The cost in nanodollars. It is None if unknown."""
    cache_saved: int | None = None
    """The nanodollars that prompt caching saved, compared with the price of uncached input. The value is None if
    unknown.

    It is negative if the cache cost more than it saved.
    """
    cost_basis: str
    """The row of the price table from which the cost was computed, as `SELLER/MODEL`. It is "" if no row was used.

    - For a row whose prices begin on a certain day, this is `SELLER/MODEL@DAY`.
    - If several rows were used, for several parts of a call, they are separated by commas.
    - For a cost that OpenRouter reported, this is `openrouter/usage.cost`.
    """
    estimated: bool
    charges: Mapping[str, int] = {}
    """The nanodollars that each quota bucket was charged, by the bucket's name."""
    stop: str
    tools: tuple[str, ...]
    duration_ms: Milliseconds
    first_event_ms: Milliseconds | None
    attempts: Small
    """The number of requests that were sent to providers for the call."""
    tried: tuple[Tried, ...] = ()
    """The attempts in their order, if there were several. The value is () otherwise.

    The record's `cost` is the sum of the costs of all attempts.
    """
    key: str = ""
    """The name of the API key of the last attempt, if the provider has several (`apikeys`)."""
    auto_cached: bool = False
    """True if the gateway has put cache marks, such as `cache_control`, into the request (`auto_cache`)."""
    dropped: tuple[str, ...]
    """JSON pointers of fields of the request or the reply that the gateway left out."""
    agent: str
    """The client program, such as `claude-cli`, from the header `user-agent`."""
    headers: Mapping[str, str] = {}
    """The values of the headers that `filterable` in the configuration names, by the header's name in lower case.

    A value comes from the request. If the request lacks the header, the value comes from the provider's last reply.
    """
    direct: Direct | None = None
    """The request line and the sizes of a direct call, which is forwarded unchanged. It is None for any other call."""

    def as_dict(self) -> dict[str, Any]:
        """Return the record in the form for the API and the log, with money in dollars."""
        return {
            "id": self.id,
            "session_id": self.session_id,
            "at": self.at,
            "identity": self.identity,
            "node": self.node,
            "provider": self.provider,
            "model": self.model,
            "served_model": self.served_model,
            "api": self.api,
            "upstream_api": self.upstream_api,
            "operation": self.operation,
            "stream": self.stream,
            "status": self.status,
            "outcome": self.outcome,
            "error": self.error,
            "error_native": self.error_native,
            "error_message": self.error_message,
            "upstream_request_id": self.upstream_request_id,
            "tokens": self.usage.as_dict(),
            "extra": dict(self.extra),
            "tier": self.tier,
            "geo": self.geo,
            "parts": [part.as_dict() for part in self.parts],
            "reported": self.reported,
            "cost_usd": dollars(self.cost),
            "cache_saved_usd": dollars(self.cache_saved),
            "cost_basis": self.cost_basis,
            "estimated": self.estimated,
            "charges_usd": {bucket: dollars(amount) for bucket, amount in self.charges.items()},
            "stop": self.stop,
            "tools": list(self.tools),
            "duration_ms": round(self.duration_ms, 1),
            "first_event_ms": None if self.first_event_ms is None else round(self.first_event_ms, 1),
            "attempts": self.attempts,
            "tried": [attempt.as_dict() for attempt in self.tried],
            "key": self.key,
            "auto_cached": self.auto_cached,
            "dropped": list(self.dropped),
            "agent": self.agent,
            "headers": dict(self.headers),
            "direct": None if self.direct is None else self.direct.as_dict(),
        }


def dollars(nanodollars: int | None) -> float | None:
    """Return nanodollars as dollars, exact up to 9 million dollars. None stays None."""
    return None if nanodollars is None else nanodollars / NANODOLLARS
