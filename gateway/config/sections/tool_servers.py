"""The sections `mcp` and `connectors`: servers of tools, resources and HTTP APIs.

No such server is called yet. The sections are checked anyway, so that today's configurations still load in a later
release that calls servers. The keys are those of Aperture's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.findings import Report
from gateway.config.reading import Reading
from gateway.config.section import Holds, Lacking, Section

NO_TOOLS: Final = Lacking("no server of tools is called, so nothing of it is allowed or refused")
RESERVED: Final = ("aperture", "tailscale", "internal")
"""Ids that no connector (a server of tools) may have."""

_CONNECTOR: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9]*")


class McpServerSection(Section):
    url: str = Field("", description='The URL of the MCP server: "https://mcp.example.com/mcp".')


class McpSection(Section):
    accept_registrations: bool = Field(False, description="Whether servers may register themselves: true or false.")
    servers: Annotated[dict[str, Any], Holds(McpServerSection, "map")] = Field(
        default_factory=dict, description='MCP servers by their id: {"wiki": {"url": "https://mcp.example.com/mcp"}}.'
    )


class ConnectorSection(Section):
    """A server that offers tools and resources (MCP), or an HTTP API. Keys other than the ones below are allowed and
    not checked.
    """

    is_open = True

    protocol: Literal["mcp", "http"] = Field("mcp", description='The protocol of the server: "mcp" or "http".')
    url: str = Field("", description='The URL of the server: "https://mcp.example.com/mcp".')
    name: Any = Field(None, description='A name for people: "Wiki".')
    description: Any = Field(None, description='A sentence for people: "the team\'s wiki".')
    labels: Any = Field(None, description='Words by which grants may name the server: ["docs"].')
    auth: Any = Field(
        None,
        description="The credentials that the gateway sends to the server: "
        '{"type": "bearer_token", "secret": "env:KEY"}.',
    )
    disabled: Any = Field(None, description="Whether the server is left out: true or false.")


class ConnectorsSection(Section):
    servers: Annotated[dict[str, Any], Holds(ConnectorSection, "map")] = Field(
        default_factory=dict, description='Servers by an id of letters and digits: {"wiki": {"protocol": "mcp"}}.'
    )


@dataclass(frozen=True, slots=True)
class ToolServers:
    """Names of tool servers that grants may refer to."""

    mcp: Collection[str]
    connectors: Collection[str]
    accept_registrations: bool
    """True if tool servers may register themselves. In that case, a grant may name a server that the document does not
    declare.
    """


def check_tool_servers(mcp: Mapping[str, Any], connectors: Mapping[str, Any], reading: Reading) -> ToolServers:
    """Report the faults of the sections `mcp` and `connectors`. Return the servers that they declare."""
    reading.section(McpSection, mcp, ("mcp",))
    for name, raw in _members(mcp, "servers").items():
        reading.section(McpServerSection, raw, ("mcp", "servers", name))
    reading.section(ConnectorsSection, connectors, ("connectors",))
    for name, raw in _members(connectors, "servers").items():
        _check_connector(name, raw, ("connectors", "servers", name), reading)
    return ToolServers(
        _members(mcp, "servers"), _members(connectors, "servers"), mcp.get("accept_registrations") is True
    )


def check_tool_patterns(key: str, patterns: Iterable[str], servers: ToolServers, path: Path, report: Report) -> None:
    """Warn of patterns that name an undeclared server. If servers may register themselves, do nothing."""
    if servers.accept_registrations:
        return
    names = (servers.mcp, servers.connectors)
    for pattern in patterns:
        head, slash, _ = pattern.partition("/")
        if slash and "*" not in head and not any(head in declared for declared in names):
            message = f'{key} pattern "{pattern}" references server "{head}" which does not match any declared server'
            report.warn(path, message + report.hint(head, *names))


def _check_connector(name: str, raw: Any, path: Path, reading: Reading) -> None:
    reading.section(ConnectorSection, raw, path)
    if not _CONNECTOR.fullmatch(name):
        reading.report.warn(path, "a connector's id is a letter followed by letters and digits")
    elif name in RESERVED:
        reading.report.warn(path, "this id is reserved; choose another")


def _members(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under `key`, or {} if there is none. `raw` has not been checked."""
    inner = raw.get(key)
    return inner if isinstance(inner, dict) else {}
