"""Types for the health of models at providers. They are used for pages, for reports of changes, and for the process
that replaces this one.
"""

from __future__ import annotations

import msgspec

from gateway.upstream.health.circuit import Cause, CircuitState, State


class Change(msgspec.Struct, frozen=True):
    """A change of a circuit's state."""

    provider: str
    model: str
    """The model's name. It is "" if the provider refuses the key, which concerns all models of the provider."""
    state: State
    cause: Cause
    calls: int
    failures: int
    seconds: float
    """Seconds from this change until the next attempt is allowed. The value is 0 if an attempt is allowed at once."""


class Failure(msgspec.Struct, frozen=True):
    """The last error of a model at a provider."""

    at: float
    """Unix time in seconds at which the error occurred."""
    code: str
    message: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The health of one model at one provider, at one time."""

    provider: str
    model: str
    state: State
    cause: Cause
    since: float | None
    """Unix time in seconds of the last change of the state. It is None if there was no change."""
    retry_in: float | None
    """Seconds until an attempt may pass. The value is None if an attempt may pass now."""
    calls: int
    """Number of attempts in the time window of the circuit breaker."""
    failures: int
    throttles: int
    """Number of attempts that the provider has throttled since the gateway started, or since the base URL or the
    credential of the provider was changed."""
    mean_seconds: float | None
    """The moving mean of the seconds until a reply began. It is None before the first reply."""
    last_success_at: float | None
    last_failure: Failure | None
    enabled: bool
    """True if the configuration switches the circuit breaker on."""
    has_other: bool
    """True if another provider or another target of an alias can serve the model's calls."""


class ModelState(msgspec.Struct, frozen=True):
    """The circuit of one model, as it is handed over to the process that replaces this one."""

    provider: str
    model: str
    circuit: CircuitState
    failure: Failure | None = None


class RestState(msgspec.Struct, frozen=True):
    """The state of a provider that rests (gets no attempts) because it refuses the gateway's key. The state is handed
    over to the process that replaces this one. All times are in seconds.
    """

    provider: str
    age: float
    """Seconds since the provider refused the key."""
    rest: float
    """Seconds until an attempt may probe the key."""
    doublings: int = 0


class HealthState(msgspec.Struct, frozen=True):
    """The models and providers that rest (get no attempts). This state is handed over to the process that replaces this
    one.
    """

    models: tuple[ModelState, ...] = ()
    rests: tuple[RestState, ...] = ()
