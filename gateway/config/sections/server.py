"""Reads `server`, `storage` and `resilience`: where the gateway listens, what it keeps, how long it waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config.document.hujson import Path
from gateway.config.fields import retention_seconds
from gateway.config.model import TAILSCALED, Fetching, Limits, Listener, Resilience, Server, Storage, Timeouts
from gateway.config.reading import Reading
from gateway.config.schema import (
    LimitsSection,
    ListenerSection,
    ResilienceSection,
    ServerSection,
    StorageSection,
    TimeoutsSection,
)
from gateway.config.sections.fetch_model import FetchSection
from gateway.config.sections.listen import parse_listen


def read_server(raw: Mapping[str, Any], reading: Reading) -> Server:
    path: Path = ("server",)
    section = reading.section(ServerSection, raw, path) or ServerSection.model_validate({})
    limits = reading.within(LimitsSection, raw, (*path, "limits"))
    fetch = reading.within(FetchSection, raw, (*path, "fetch"))
    listeners = raw.get("listeners")
    return Server(
        listeners=_listeners(listeners if isinstance(listeners, list) else [], (*path, "listeners"), reading),
        hosts=section.hosts,
        limits=Limits(**limits.model_dump()),
        fetch=Fetching(**fetch.model_dump()),
        drain_seconds=section.drain_seconds,
    )


def _listeners(raw: list[Any], path: Path, reading: Reading) -> tuple[Listener, ...]:
    listeners: dict[str, Listener] = {}
    for index, item in enumerate(raw):
        section = reading.section(ListenerSection, item, (*path, index))
        if section is None:
            continue
        if section.listen in listeners:
            reading.report.error((*path, index), f'"{section.listen}" is listened on twice; keep one of them')
        listeners[section.listen] = Listener(
            section.listen,
            *parse_listen(section.listen),
            identity=section.identity or "loopback",
            login=section.login or ",".join(sorted(section.tags)),
            groups=section.groups,
            tags=section.tags,
            tailscaled=section.tailscaled or TAILSCALED,
            service=section.service or "",
            proxies=frozenset(section.proxies),
        )
    return tuple(listeners.values()) or Server().listeners


def read_storage(raw: Any, reading: Reading) -> Storage:
    section = reading.section(StorageSection, raw, ("storage",))
    return Storage(section.url, retention_seconds(section.retention)) if section else Storage()


def read_resilience(raw: Mapping[str, Any], reading: Reading) -> Resilience:
    path: Path = ("resilience",)
    reading.section(ResilienceSection, raw, path)
    timeouts = reading.within(TimeoutsSection, raw, (*path, "timeouts"))
    return Resilience(Timeouts(**timeouts.model_dump()))
