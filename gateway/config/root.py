"""The whole document as one pydantic model, with one field for each top-level key.

Each section has a file in `sections/`, with its model and its reader. Nothing here reads a file or the environment, or
depends on the content of a section.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from gateway.config.fields import FilePath
from gateway.config.section import PLANNED, Holds, Items, Planned, Section
from gateway.config.sections.aliases import AliasesSection
from gateway.config.sections.database import DatabaseSection
from gateway.config.sections.exporters import ExportersSection
from gateway.config.sections.grants import GrantSection
from gateway.config.sections.hooks import NO_HOOKS, HookSection
from gateway.config.sections.metrics import MetricsSection
from gateway.config.sections.providers import ProviderSection
from gateway.config.sections.quotas import QuotaSection
from gateway.config.sections.resilience import ResilienceSection
from gateway.config.sections.server import ServerSection
from gateway.config.sections.storage import StorageSection
from gateway.config.sections.temp_grants import TempGrantSection
from gateway.config.sections.tool_servers import NO_TOOLS, ConnectorsSection, McpSection


class RootSection(Section):
    """The configuration of the gateway."""

    schema_: Annotated[Any, WithJsonSchema({"type": "string"})] = Field(
        None, alias="$schema", description='A schema for editors: "./irisgate.schema.json".'
    )
    providers: Annotated[dict[str, Any], Holds(ProviderSection, "map")] = Field(
        default_factory=dict, description='Providers of models, by a key of one word: {"bedrock": {}}.'
    )
    grants: Annotated[Items, Holds(GrantSection, "list")] = Field(
        (), description='Who may use which models: [{"src": ["*"], "app": {"tailscale.com/cap/aperture": []}}].'
    )
    temp_grants: Annotated[Items, Holds(TempGrantSection, "list")] = Field(
        (),
        description="Deprecated: grants of an older form, which are added to the grants: [].",
        json_schema_extra={"deprecated": True},
    )
    model_aliases: Annotated[dict[str, Any], Holds(AliasesSection)] = Field(
        default_factory=dict, description='Other names for models: {"models": {"fast": {"dst": ["bedrock/m"]}}}.'
    )
    server: Annotated[dict[str, Any], Holds(ServerSection)] = Field(
        default_factory=dict, description='Where the gateway listens, and its limits: {"hosts": ["ai"]}.'
    )
    storage: Annotated[dict[str, Any], Holds(StorageSection)] = Field(
        default_factory=dict, description='Where records are stored: {"url": "sqlite:irisgate.db"}.'
    )
    resilience: Annotated[dict[str, Any], Holds(ResilienceSection)] = Field(
        default_factory=dict, description='Timeouts of calls upstream: {"timeouts": {"read_seconds": 600}}.'
    )
    quotas: Annotated[dict[str, Any], Holds(QuotaSection, "map")] = Field(
        default_factory=dict, description='Budgets by name: {"daily:<user>": {"capacity": "$10.00"}}.'
    )
    metrics: Annotated[dict[str, Any], Holds(MetricsSection)] = Field(
        default_factory=dict,
        description='Metrics by caller, and a listener for metrics only: {"listen": "127.0.0.1:9090"}.',
    )
    plugins: dict[str, Any] = Field(
        default_factory=dict,
        description='Filters by name, in the order in which calls pass them: {"secret_scrubber": {}}.',
    )
    hooks: Annotated[dict[str, Any], Holds(HookSection, "map"), PLANNED, NO_HOOKS] = Field(
        default_factory=dict, description='Hooks by name: {"audit": {"url": "https://hooks.example.com/seen"}}.'
    )
    exporters: Annotated[dict[str, Any], Holds(ExportersSection)] = Field(
        default_factory=dict,
        description='Where records are exported to: {"folder": {"path": "/var/lib/irisgate/export"}}.',
    )
    auto_cost_basis: bool = Field(
        True,
        description="Whether the price list of a provider that names none follows "
        "from its compatibility flags: true or false.",
    )
    prices: FilePath = Field(
        "", description='A file with prices of your own, relative to the folder of this file: "prices.hujson".'
    )
    database: Annotated[dict[str, Any], Holds(DatabaseSection)] = Field(
        default_factory=dict,
        description='Whether and for how long bodies of calls are stored: {"save_raws": '
        'true, "retention": {"duration": "30d"}}.',
    )
    mcp: Annotated[dict[str, Any], Holds(McpSection), PLANNED, NO_TOOLS] = Field(
        default_factory=dict, description='MCP servers: {"servers": {}}.'
    )
    connectors: Annotated[dict[str, Any], Holds(ConnectorsSection), PLANNED, NO_TOOLS] = Field(
        default_factory=dict, description='Servers of tools and resources: {"servers": {}}.'
    )
    flags: Planned = Field(
        None, description='Switches for features of the hosted product: {"connectors": {"value": true}}.'
    )
    chat_models: Planned = Field(None, description='Models of the chat page: ["bedrock/m"].')
