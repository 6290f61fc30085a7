"""The section `resilience`: how long the gateway waits for providers.

Retries and a circuit breaker are planned. The key `timeouts` of a provider is in `providers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.fields import Seconds
from gateway.config.model import Resilience, Timeouts
from gateway.config.reading import Reading
from gateway.config.section import Holds, Planned, Section


class TimeoutsSection(Section):
    connect_seconds: Seconds = Field(Timeouts().connect_seconds, description="Seconds to connect in, such as 10.")
    read_seconds: Seconds = Field(
        Timeouts().read_seconds, description="Seconds between two reads of a reply, such as 600."
    )


class ResilienceSection(Section):
    timeouts: Annotated[dict[str, Any], Holds(TimeoutsSection)] = Field(
        default_factory=dict, description='Timeouts of calls upstream, in seconds: {"read_seconds": 600}.'
    )
    retries: Planned = Field(None, description="Tries before the first byte of a reply, such as 2.")
    failover: Planned = Field(None, description="Whether another provider of the model is tried: true or false.")
    circuit_breaker: Planned = Field(None, description="When a failing provider rests: {}.")


def read_resilience(raw: Mapping[str, Any], reading: Reading) -> Resilience:
    path: Path = ("resilience",)
    reading.section(ResilienceSection, raw, path)
    timeouts = reading.within(TimeoutsSection, raw, (*path, "timeouts"))
    return Resilience(Timeouts(**timeouts.model_dump()))
