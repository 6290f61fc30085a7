"""The record of a call: one vocabulary for the log line, the store, the metrics and the API.

Its fields are the words (`tests/test_vocabulary.py` holds all four to them); `as_dict` is how the outside sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from gateway.contract.flag import Usage

NANODOLLARS = 1_000_000_000
"""Money is held in integer nanodollars (1e-9 USD), so that sums are exact."""


_LAST: Final = 253_402_300_799
"""The end of the year 9999, in Unix time: no later moment has a date."""
_MOST: Final = 2**53
Moment = Annotated[float, msgspec.Meta(ge=0, le=_LAST)]
Small = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Milliseconds = Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)]
"""What is beyond these bounds is no record where one is read: nothing could keep it, or show it."""


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of one call, whatever became of it."""

    id: str
    """Also the reply's `x-request-id`."""
    session_id: str
    at: Moment
    """Unix time in seconds at which the request came."""
    identity: str
    node: str = ""
    """Stable id of the node that called, where the listener's mode knows it."""
    provider: str
    """"" when the call was refused before one was chosen."""
    model: str
    """The model that was granted, without a provider prefix; before it was (`call/middleware/grants.py`), the name as
    the client asked for it, an alias or one with a provider included; "" when the request could not be read."""
    api: str
    """The flag whose route the client used."""
    upstream_api: str
    """The flag by which the provider was called."""
    operation: str
    stream: bool
    status: Small
    """HTTP status of the reply; 499 when the client left before there was one."""
    outcome: str
    """`ok`, `refused` (by the gateway), `failed` (by the provider), `cancelled` (by the client)."""
    error: str
    """Code of the problem (`errors.py`), "" when all went well."""
    error_native: str
    """The provider's own name for it."""
    usage: Usage
    extra: Mapping[str, int] = {}
    """Counts of what is paid for beside tokens, such as `web_search`."""
    tier: str = ""
    """The service tier that the provider says it was."""
    reported: bool
    """The tokens are what the provider reported."""
    cost: int | None
    """Nanodollars; None when unknown."""
    cost_basis: str
    """Price row that was used, as `book/model`, with `@` and its first day where it has one; "" when none was."""
    estimated: bool
    charges: Mapping[str, int] = {}
    """Nanodollars that the call took from quota buckets, by bucket."""
    stop: str
    tools: tuple[str, ...]
    duration_ms: Milliseconds
    first_event_ms: Milliseconds | None
    attempts: Small
    dropped: tuple[str, ...]
    """JSON pointers of fields that were not carried."""
    agent: str
    """Family of the client's user agent, such as `claude-cli`."""

    def as_dict(self) -> dict[str, Any]:
        """The call as the API and the log show it: money as decimal dollars, tokens by kind."""
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
    """Nanodollars as a decimal number of dollars, exact to the nanodollar below 9 million dollars."""
    return None if nanodollars is None else nanodollars / NANODOLLARS
