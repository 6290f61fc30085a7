"""The section `metrics` of the document: who is a label, and where the metrics are served besides `/metrics`.

What is made of it is in `metrics.py`.
"""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.config.section import Section
from gateway.config.sections.listen import parse_listen


def _own_listen(value: str) -> str:
    """Nobody is asked for a grant there, so nobody else may get there."""
    if not parse_listen(value).loopback:
        raise ValueError(
            f'{json.dumps(value[:80])} can be reached by others; write an address of this machine, "127.0.0.1:9090", '
            'or let Prometheus read /metrics of "server.listeners" and grant it "read_metrics"'
        )
    return value


class MetricsSection(Section):
    users: int = Field(
        0, ge=0, le=10_000, description='Callers with series of their own, such as 50; all others are "other".'
    )
    listen: Annotated[str, AfterValidator(_own_listen)] | None = Field(
        None,
        description='An address of this machine where metrics are served without a grant: "127.0.0.1:9090".',
        examples=['"listen": "127.0.0.1:9090"'],
    )
