"""The section `metrics`: how many callers have metric series of their own, and the listener that serves only metrics.

The metrics themselves are in `gateway/telemetry/`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gateway.config.model import MetricsSettings
from gateway.config.reading import Reading
from gateway.config.section import Section
from gateway.config.sections.listen import loopback_listener, parse_listen


def _own_listen(value: str) -> str:
    """Return the address of the listener that serves only metrics.

    Raises `ValueError` if other machines can reach the address, because callers of this listener need no grant.
    """
    if not parse_listen(value).loopback:
        raise ValueError(
            f'{json.dumps(value[:80])} can be reached by others; write an address of this machine, "127.0.0.1:9090", '
            'or let Prometheus read /metrics of "server.listeners" and grant it "read_metrics"'
        )
    return value


class MetricsSection(Section):
    users: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Maximum number of callers with metric series of their own, such as "
        '50; all others share the series "other".',
    )
    listen: Annotated[str, AfterValidator(_own_listen)] | None = Field(
        None,
        description='An address of this machine at which metrics are served without a grant: "127.0.0.1:9090".',
        examples=['"listen": "127.0.0.1:9090"'],
    )


def read_metrics(raw: Any, reading: Reading) -> MetricsSettings:
    section = reading.section(MetricsSection, raw, ("metrics",))
    if section is None:
        return MetricsSettings()
    return MetricsSettings(section.users, loopback_listener(section.listen) if section.listen else None)
