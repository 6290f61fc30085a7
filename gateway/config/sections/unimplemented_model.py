"""Sections of keys that are read and have no effect yet: hooks, exporters, MCP, connectors.

They are checked all the same, so that a configuration that loads today still loads on the day on which they are built.
What they refer to is checked in `unimplemented.py`. Sections that do something are in `config/schema.py`. Source of the
keys: aperture.md sections 1.4, 1.7, 1.8 and 1.10.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.config.fields import Names, Timeout
from gateway.config.section import Holds, Section


class HookSection(Section):
    """A web address that is called when the gateway is."""

    url: str = Field("", description='Where the hook is called, by http or https: "https://hooks.example.com/seen".')
    apikey: str = Field("", description='The key that is sent to the hook: a literal, "env:NAME" or "file:PATH".')
    authorization: Literal["bearer", "x-api-key", "x-goog-api-key", "hec", "cf-aig-authorization"] = Field(
        "bearer", description='How the key is sent: "bearer" is "Authorization: Bearer KEY".'
    )
    timeout: Timeout = Field("5s", description='How long the hook may take: "5s", "1m30s"; "0" is without end.')
    disabled: bool = Field(False, description="Whether the hook is left out: true or false.")
    fail_policy: Literal["fail_open", "fail_closed"] = Field(
        "fail_open", description='What becomes of a call when the hook fails: "fail_open" lets it through.'
    )
    preference: int = Field(0, description="Which hook is called first: the higher number, such as 10.")


class S3Section(Section):
    """Where records are exported to."""

    bucket_name: str = Field("", description='The bucket; a name turns the export on: "usage".')
    endpoint: str = Field("", description='The address of a store other than AWS: "https://s3.example.com".')
    region: str = Field("us-east-1", description='The region of the bucket: "us-east-1".')
    prefix: str = Field("", description='What the names of objects begin with, without a "/" at the end: "irisgate".')
    access_key_id: str = Field("", description='The id of a static AWS key, with "access_secret": "AKIA...".')
    access_secret: str = Field("", description='The secret of that key: a literal, "env:NAME" or "file:PATH".')
    every: float = Field(3600, ge=0, description="Seconds between two exports, such as 3600.")
    limit: int = Field(1000, ge=0, description="Records in one export, at most 10000, such as 1000.")


class ExportersSection(Section):
    s3: Annotated[dict[str, Any], Holds(S3Section)] = Field(
        default_factory=dict, description='An export to S3 or a store like it: {"bucket_name": "usage"}.'
    )


class McpServerSection(Section):
    url: str = Field("", description='Where the MCP server is called: "https://mcp.example.com/mcp".')


class McpSection(Section):
    accept_registrations: bool = Field(False, description="Whether servers may register themselves: true or false.")
    servers: Annotated[dict[str, Any], Holds(McpServerSection, "map")] = Field(
        default_factory=dict, description='MCP servers by their id: {"wiki": {"url": "https://mcp.example.com/mcp"}}.'
    )


class ConnectorSection(Section):
    """A server of tools, resources or an HTTP API. Only some of its keys are known here."""

    is_open = True

    protocol: Literal["mcp", "http"] = Field("mcp", description='What the server speaks: "mcp" or "http".')
    url: str = Field("", description='Where the server is called: "https://mcp.example.com/mcp".')
    name: Any = Field(None, description='A name for people: "Wiki".')
    description: Any = Field(None, description='A sentence for people: "the team\'s wiki".')
    labels: Any = Field(None, description='Words by which grants may name it: ["docs"].')
    auth: Any = Field(None, description='How the gateway signs in: {"type": "bearer_token", "secret": "env:KEY"}.')
    disabled: Any = Field(None, description="Whether the server is left out: true or false.")


class ConnectorsSection(Section):
    servers: Annotated[dict[str, Any], Holds(ConnectorSection, "map")] = Field(
        default_factory=dict, description='Servers by an id of letters and digits: {"wiki": {"protocol": "mcp"}}.'
    )


class SendHookSection(Section):
    """What a hook gets of a capability's calls."""

    name: str = Field(description='The name of a hook: "audit".', examples=['"name": "audit"'])
    events: Names = Field((), description='When the hook is called: ["pre_request"].')
    send: Names = Field((), description='What the hook gets: ["user_message", "tools"].')
