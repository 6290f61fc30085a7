"""The section `circuit_breaker` of `resilience` or of a provider. A provider's keys override those of `resilience`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.fields import Seconds
from gateway.config.model import CircuitBreaker
from gateway.config.reading import Reading
from gateway.config.section import Section

_DEFAULT: Final = CircuitBreaker()
_Share = Annotated[float, Field(gt=0, le=1)]


class CircuitBreakerSection(Section):
    enabled: bool = Field(
        _DEFAULT.enabled,
        description="Whether a model at a provider rests while its attempts fail: true or false. A model without "
        "another provider is called all the same.",
    )
    failures: _Share = Field(
        _DEFAULT.failures, description="The share of failed attempts at which the circuit opens, such as 0.5."
    )
    calls: int = Field(
        _DEFAULT.calls, ge=1, le=10_000, description="Attempts in the window before the share counts, such as 5."
    )
    window_seconds: Seconds = Field(
        _DEFAULT.window_seconds, description="Seconds for which the end of an attempt counts, such as 60."
    )
    open_seconds: Seconds = Field(
        _DEFAULT.open_seconds,
        description="Seconds of the first rest, such as 15. A rest that follows a failed probe is twice as long as the "
        "one before, up to eight times this number.",
    )
    half_open: int = Field(
        _DEFAULT.half_open,
        ge=1,
        le=100,
        description="Calls that are let pass as probes after a rest, and that must succeed to end it, such as 3.",
    )
    slow_start_seconds: float = Field(
        _DEFAULT.slow_start_seconds,
        ge=0,
        le=86400,
        description="Seconds after a rest in which the share of calls grows from a tenth to all, such as 30; 0 for "
        "all at once.",
    )
    outlier: _Share = Field(
        _DEFAULT.outlier,
        description="By how much a model's share of failed attempts may exceed that of its peers together, such as "
        "0.2; 1 for no limit. Peers are the same model at other providers, and the other targets of the model's "
        "aliases.",
    )


def read_circuit_breaker(raw: Mapping[str, Any], path: Path, base: CircuitBreaker, reading: Reading) -> CircuitBreaker:
    """Return the settings of the section at `path`. Missing keys are taken from `base`.

    `raw` is the object that contains the section.
    """
    section = reading.within(CircuitBreakerSection, raw, path)
    return replace(base, **section.model_dump(exclude_unset=True))
