"""The section `server`: listeners, host names, limits, and fetching of files.

`listeners.py` has the listeners, and `fetch.py` the settings for files that clients name by URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.fields import Bytes, Hosts
from gateway.config.reading import Reading
from gateway.config.section import Holds, Items, Section
from gateway.config.sections.fetch import FetchSection, read_fetch
from gateway.config.sections.listeners import ListenerSection, read_listeners
from gateway.config.server import Limits, Server


class LimitsSection(Section):
    body_bytes: Bytes = Field(
        Limits().body_bytes, description="Maximum size of a request's body in bytes, such as 33554432."
    )
    header_bytes: Bytes = Field(
        Limits().header_bytes, description="Maximum length of a header line in bytes, such as 16384."
    )
    body_bytes_per_second: int = Field(
        Limits().body_bytes_per_second,
        ge=1,
        le=1_000_000_000,
        description="Minimum average rate of a request's body in bytes per second, "
        "after the first 30 seconds, such as 8192.",
    )
    buffer_bytes: Bytes = Field(
        Limits().buffer_bytes,
        description="Maximum number of bytes of the bodies and buffered replies of all calls in flight, such as "
        "201326592. A call that does not fit is refused with 503 before its body is read. A body takes up to four "
        "times its size in memory.",
    )
    calls: int = Field(
        Limits().calls, ge=1, le=1_000_000, description="Maximum number of calls in flight, such as 5000."
    )
    calls_per_identity: int = Field(
        Limits().calls_per_identity,
        ge=1,
        le=1_000_000,
        description="Maximum number of calls in flight of one login, such as 500.",
    )
    connections: int | None = Field(
        None,
        ge=8,
        le=1_000_000,
        description="Maximum number of connections of clients, such as 2000. By default, it is half of the file "
        "descriptors that the process may have. To make room for a new connection, the one that has been idle for "
        "longest is closed.",
    )
    connections_per_peer: int = Field(
        Limits().connections_per_peer,
        ge=1,
        le=1_000_000,
        description="Maximum number of connections from one address of another machine, such as 256. With a PROXY "
        "header, the address in the header counts. Connections from `tailscale serve` are not counted by address.",
    )
    streams_per_connection: int = Field(
        Limits().streams_per_connection,
        ge=1,
        le=10_000,
        description="Maximum number of concurrent requests on one HTTP/2 connection, such as 100.",
    )
    resets_per_minute: int = Field(
        Limits().resets_per_minute,
        ge=1,
        le=1_000_000,
        description="Maximum number of requests per minute that a client may cancel on one HTTP/2 connection, such as "
        "200. Then the connection ends.",
    )
    control_frames_per_minute: int = Field(
        Limits().control_frames_per_minute,
        ge=100,
        le=1_000_000,
        description="Maximum number of frames per minute that carry neither a request nor a body, on one HTTP/2 "
        "connection, such as 1000. Each frame with content, sent or received, allows four more. Then the connection "
        "ends.",
    )
    head_seconds: float = Field(
        Limits().head_seconds,
        gt=0,
        le=3600,
        description="Maximum number of seconds from the first to the last byte of a request's head, such as 15.",
    )
    idle_seconds: float = Field(
        Limits().idle_seconds,
        gt=0,
        le=86400,
        description="Seconds after which a connection without a request is closed, such as 75.",
    )


class ServerSection(Section):
    listeners: Annotated[Annotated[Items, Field(min_length=1)] | None, Holds(ListenerSection, "list")] = Field(
        None, description='Where the gateway listens: [{"listen": "127.0.0.1:8080"}].'
    )
    hosts: Hosts = Field(
        (), description='Host names under which clients may call the gateway: ["ai", "ai.example.ts.net"].'
    )
    limits: Annotated[dict[str, Any], Holds(LimitsSection)] = Field(
        default_factory=dict, description='Limits of requests and connections: {"body_bytes": 33554432}.'
    )
    fetch: Annotated[dict[str, Any], Holds(FetchSection)] = Field(
        default_factory=dict,
        description='Rules for fetching files that clients name by URL: {"allow_hosts": ["*.example.com"]}.',
    )
    drain_seconds: float = Field(
        30,
        ge=0,
        le=86400,
        description="Maximum number of seconds for which calls in flight continue after a stop, such as 30.",
    )


def read_server(raw: Mapping[str, Any], reading: Reading) -> Server:
    path: Path = ("server",)
    section = reading.section(ServerSection, raw, path) or ServerSection.model_validate({})
    limits = reading.within(LimitsSection, raw, (*path, "limits"))
    listeners = raw.get("listeners")
    return Server(
        listeners=read_listeners(listeners if isinstance(listeners, list) else [], (*path, "listeners"), reading),
        hosts=section.hosts,
        limits=Limits(**limits.model_dump()),
        fetch=read_fetch(raw, path, reading),
        drain_seconds=section.drain_seconds,
    )
