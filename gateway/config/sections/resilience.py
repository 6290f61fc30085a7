"""The section `resilience`: how long the gateway waits for providers, when another provider serves a call, and when a
failing provider gets no calls.

A provider's own keys `timeouts` and `circuit_breaker` override the keys here (`providers.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.fields import Seconds
from gateway.config.model import CircuitBreaker, Resilience, Strategy, Timeouts
from gateway.config.reading import Reading
from gateway.config.section import Holds, Section
from gateway.config.sections.circuit_breaker import CircuitBreakerSection, read_circuit_breaker


class TimeoutsSection(Section):
    connect_seconds: Seconds = Field(
        Timeouts().connect_seconds, description="Seconds to connect in, with the look-up and TLS, such as 10."
    )
    head_seconds: Seconds = Field(
        Timeouts().head_seconds,
        description="Seconds from the connection to the head of the reply, such as 600. Interim replies (100, 103) do "
        "not extend them. An unstreamed reply begins when the model is ready.",
    )
    first_event_seconds: Seconds = Field(
        Timeouts().first_event_seconds,
        description="Seconds from the head of a stream to its first event, such as 300. Comments are no events.",
    )
    read_seconds: Seconds = Field(
        Timeouts().read_seconds,
        description="Seconds between two events of a stream, and for the body of an unstreamed reply, such as 600. A "
        "body has one second more for each 8 KB.",
    )
    stream_seconds: Seconds = Field(
        Timeouts().stream_seconds,
        description="Seconds from the head of a stream to its end, such as 7200, also if events such as a provider's "
        "pings keep coming.",
    )


class ResilienceSection(Section):
    timeouts: Annotated[dict[str, Any], Holds(TimeoutsSection)] = Field(
        default_factory=dict, description='Timeouts of calls upstream, in seconds: {"read_seconds": 600}.'
    )
    circuit_breaker: Annotated[dict[str, Any], Holds(CircuitBreakerSection)] = Field(
        default_factory=dict,
        description='When a model at a provider rests, because its attempts fail: {"open_seconds": 30}.',
    )
    failover: bool = Field(
        Resilience().failover,
        description="Whether the next provider of the model, or the next target of the alias, serves a call that fails "
        "at its provider before the first event of the reply: true or false.",
    )
    max_attempts: int = Field(Resilience().max_attempts, ge=1, le=10, description="Attempts of a call, such as 3.")
    total_seconds: Seconds = Field(
        Resilience().total_seconds,
        description="Seconds from the first attempt of a call to the first event of its reply, such as 600, where the "
        "call can be tried again.",
    )
    retry_budget: float = Field(
        Resilience().retry_budget,
        ge=0,
        le=1,
        description="Further requests that failover may send for each call of the last 10 seconds, such as 0.1. Ten "
        "are always allowed. An attempt that did not reach its provider does not count.",
    )
    strategy: Strategy = Field(
        Resilience().strategy,
        description="How one of several providers of a model with the highest preference is chosen, as for an alias: "
        '"first", "weighted", "least_in_flight", "cheapest", "session", "random" or "round_robin".',
    )
    sticky_seconds: float = Field(
        Resilience().sticky_seconds,
        ge=0,
        le=86400,
        description="Seconds after a session's last call for which the session stays at the provider that has its "
        'prompt in the cache, such as 300; 0 if it does not stay. "random" and "round_robin" choose for each call.',
    )
    retry_after_seconds: float = Field(
        Resilience().retry_after_seconds,
        ge=0,
        le=600,
        description="The longest `Retry-After` of a provider that is waited for if no other provider is left, such as "
        "5. With 0, the client is told at once.",
    )


def read_resilience(raw: Mapping[str, Any], reading: Reading) -> Resilience:
    path: Path = ("resilience",)
    section = reading.section(ResilienceSection, raw, path)
    timeouts = read_timeouts(raw, path, Timeouts(), reading)
    breaker = read_circuit_breaker(raw, (*path, "circuit_breaker"), CircuitBreaker(), reading)
    if section is None:
        return Resilience(timeouts, breaker)
    return Resilience(
        timeouts=timeouts,
        circuit_breaker=breaker,
        failover=section.failover,
        max_attempts=section.max_attempts,
        total_seconds=section.total_seconds,
        retry_budget=section.retry_budget,
        strategy=section.strategy,
        sticky_seconds=section.sticky_seconds,
        retry_after_seconds=section.retry_after_seconds,
    )


def read_timeouts(raw: Mapping[str, Any], path: Path, default: Timeouts, reading: Reading) -> Timeouts:
    """Return the timeouts in the section at `path`. Missing timeouts are taken from `default`."""
    section = reading.within(TimeoutsSection, raw, (*path, "timeouts"))
    return replace(default, **section.model_dump(include=section.model_fields_set))
