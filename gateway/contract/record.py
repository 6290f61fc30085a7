"""The record of a call: one vocabulary for the log line, the store, the metrics and the API.

The fields are that vocabulary; `tests/test_vocabulary.py` compares all four with them. `as_dict` is the public form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from gateway.contract.flag import Usage

NANODOLLARS = 1_000_000_000
"""Money is held in integer nanodollars (1e-9 USD), so that sums are exact."""


_LAST: Final = 253_402_300_799
"""Unix time of the end of the year 9999; no later moment has a date."""
_MOST: Final = 2**53
Moment = Annotated[float, msgspec.Meta(ge=0, le=_LAST)]
Small = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Milliseconds = Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)]
"""Milliseconds. A record with a value beyond the bounds of these types is rejected: no store or page could hold it."""


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The record of one call, however the call ended."""

    id: str
    """The call's id, which is the reply's `x-request-id` too."""
    session_id: str
    at: Moment
    """Unix time in seconds at which the request came."""
    identity: str
    node: str = ""
    """The stable id of the calling node, if the listener's identity mode knows it."""
    provider: str
    """The provider; "" if the call was refused before one was chosen."""
    model: str
    """The granted model, without a provider prefix. In a call that was refused before the grants were checked
    (`call/middleware/grants.py`) it is the name that the client sent; "" if the request could not be read."""
    api: str
    """The flag whose route the client used."""
    upstream_api: str
    """The flag by which the provider was called."""
    operation: str
    stream: bool
    status: Small
    """The HTTP status of the reply; 499 if the client left before it."""
    outcome: str
    """`ok`, `refused` (by the gateway), `failed` (by the provider), `cancelled` (by the client)."""
    error: str
    """The code of the problem (`errors.py`); "" without one."""
    error_native: str
    """The provider's own name for it, or why it could not be reached: `no_such_host`, `tls` ..."""
    error_message: str = ""
    """The beginning of what was said to the client, or would have been."""
    upstream_request_id: str = ""
    """The provider's own id of the request (`x-amzn-requestid`), for its support."""
    usage: Usage
    extra: Mapping[str, int] = {}
    """Counts of billed items other than tokens, such as `web_search`."""
    tier: str = ""
    """The service tier that the provider names."""
    reported: bool
    """True if the provider reported the tokens."""
    cost: int | None
    """The cost in nanodollars; None if unknown."""
    cost_basis: str
    """The price row, as `book/model`, with `@` and the row's first day if it has one; "" without a row."""
    estimated: bool
    charges: Mapping[str, int] = {}
    """Nanodollars that the call took from quota buckets, by bucket."""
    stop: str
    tools: tuple[str, ...]
    duration_ms: Milliseconds
    first_event_ms: Milliseconds | None
    attempts: Small
    dropped: tuple[str, ...]
    """JSON pointers of fields that were dropped."""
    agent: str
    """The family of the client's user agent, such as `claude-cli`."""

    def as_dict(self) -> dict[str, Any]:
        """Return the call as the API and the log show it, with money in decimal dollars and tokens by kind."""
        return {
            "id": self.id,
            "session_id": self.session_id,
            "at": self.at,
            "identity": self.identity,
            "node": self.node,
            "provider": self.provider,
            "model": self.model,
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
            "reported": self.reported,
            "cost_usd": dollars(self.cost),
            "cost_basis": self.cost_basis,
            "estimated": self.estimated,
            "charges_usd": {bucket: dollars(amount) for bucket, amount in self.charges.items()},
            "stop": self.stop,
            "tools": list(self.tools),
            "duration_ms": round(self.duration_ms, 1),
            "first_event_ms": None if self.first_event_ms is None else round(self.first_event_ms, 1),
            "attempts": self.attempts,
            "dropped": list(self.dropped),
            "agent": self.agent,
        }


def dollars(nanodollars: int | None) -> float | None:
    """Return nanodollars as dollars, exact to the nanodollar below 9 million dollars."""
    return None if nanodollars is None else nanodollars / NANODOLLARS
