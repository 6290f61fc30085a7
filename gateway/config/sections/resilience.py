"""The section `resilience`: how long the gateway waits for providers, and when a failing provider rests.

Retries are planned. The key `timeouts` of a provider is in `providers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.fields import Seconds
from gateway.config.model import CircuitBreaker, Resilience, Timeouts
from gateway.config.reading import Reading
from gateway.config.section import Holds, Planned, Section
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
    retries: Planned = Field(None, description="Tries before the first byte of a reply, such as 2.")
    failover: Planned = Field(None, description="Whether another provider of the model is tried: true or false.")
    circuit_breaker: Annotated[dict[str, Any], Holds(CircuitBreakerSection)] = Field(
        default_factory=dict,
        description='When a model at a provider rests, because its attempts fail: {"open_seconds": 30}.',
    )


def read_resilience(raw: Mapping[str, Any], reading: Reading) -> Resilience:
    path: Path = ("resilience",)
    reading.section(ResilienceSection, raw, path)
    timeouts = reading.within(TimeoutsSection, raw, (*path, "timeouts"))
    breaker = read_circuit_breaker(raw, (*path, "circuit_breaker"), CircuitBreaker(), reading)
    return Resilience(Timeouts(**timeouts.model_dump()), breaker)
