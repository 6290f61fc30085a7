"""The record of a call: one vocabulary for the log line, the store, the metrics and the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.flag import Usage

NANODOLLARS = 1_000_000_000
"""Money is held in integer nanodollars (1e-9 USD), so that sums are exact."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of one call, whatever became of it."""

    id: str
    """Also the reply's `x-request-id`."""
    session_id: str
    at: float
    """Unix time in seconds at which the request came."""
    identity: str
    provider: str
    """"" when the call was refused before one was chosen."""
    model: str
    """As the client named it, without a provider prefix; "" when the request could not be read."""
    api: str
    """The flag whose route the client used."""
    upstream_api: str
    """The flag by which the provider was called."""
    operation: str
    stream: bool
    status: int
    """HTTP status of the reply; 499 when the client left before there was one."""
    outcome: str
    """`ok`, `refused` (by the gateway), `failed` (by the provider), `cancelled` (by the client)."""
    error: str
    """Code of the problem (`errors.py`), "" when all went well."""
    error_native: str
    """The provider's own name for it."""
    usage: Usage
    reported: bool
    """The tokens are what the provider reported."""
    cost: int | None
    """Nanodollars; None when unknown."""
    cost_basis: str
    """Price row that was used, as `basis/model`; "" when none was."""
    estimated: bool
    stop: str
    tools: tuple[str, ...]
    duration_ms: float
    first_event_ms: float | None
    attempts: int
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
            "reported": self.reported,
            "cost_usd": dollars(self.cost),
            "cost_basis": self.cost_basis,
            "estimated": self.estimated,
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
