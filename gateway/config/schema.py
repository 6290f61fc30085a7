"""The document that people write, section by section, as pydantic models.

One model is one JSON object; a field is a key. Those marked as planned are keys of the hosted product (and our own
plans) that are known and have no effect yet: they warn and never stop a start. Every field has a description of one
sentence, which editors show (`export.py`). What a section is turned into is in the file that has the key's name
(`config/sections/providers.py`, `config/sections/grants.py`, ...); where a fault stands is found by `check.py`. Nothing
here reads a file or the environment.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, WithJsonSchema, model_validator

from gateway.config.fields import (
    Addresses,
    BaseUrl,
    Bytes,
    FilePath,
    Headers,
    Hosts,
    ModelId,
    Name,
    Names,
    NamesOrNull,
    Patterns,
    Retention,
    Seconds,
    Service,
    SocketPath,
    SqliteUrl,
    Targets,
)
from gateway.config.model import AuthMode, Authorization, Limits, Mode, Role, Strategy, Timeouts
from gateway.config.section import PLANNED, Holds, Lacking, Planned, Section
from gateway.config.sections.capabilities import BetasSection, CapabilitiesSection
from gateway.config.sections.database_model import DatabaseSection
from gateway.config.sections.fetch_model import FetchSection
from gateway.config.sections.listen import Address, needs_mode, parse_listen
from gateway.config.sections.metrics_model import MetricsSection
from gateway.config.sections.prices_model import CostRuleSection
from gateway.config.sections.quotas_model import BucketSection, QuotaSection, RateLimitSection
from gateway.config.sections.unimplemented_model import (
    ConnectorsSection,
    ExportersSection,
    HookSection,
    McpSection,
    SendHookSection,
)

CAPABILITIES: Final = ("tailscale.com/cap/aperture", "irisgate.dev/cap/irisgate")
"""Keys of a grant's `app` that are read, the hosted product's and our own."""

STRATEGIES: Final[tuple[Strategy, ...]] = ("first", "random", "round_robin", "session")
"""An unknown one only warns, for nobody here knows the hosted product's names."""

_StrategyName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(STRATEGIES)})]
_List = Annotated[tuple[Any, ...], Field(strict=False)]

_NO_HOOKS: Final = Lacking("no hook is called, so guardrails are NOT applied, and no hook learns of calls")
_NO_EXPORT: Final = Lacking("nothing is exported")
_NO_TOOLS: Final = Lacking("no server of tools is called, so nothing of it is allowed or refused")
_NO_TLS: Final = Lacking("the listener speaks plain HTTP, and nothing is encrypted")


class ProviderSection(Section):
    """An upstream: where it is, which models it has, and how it is spoken to."""

    baseurl: BaseUrl = Field(
        "", description='The provider\'s address: "https://bedrock-runtime.us-east-1.amazonaws.com".'
    )
    models: NamesOrNull = Field(
        (), description='The models that may be asked for, as the provider calls them: ["us.amazon.nova-lite-v1:0"].'
    )
    apikey: str = Field("", description='The key: a literal, "env:NAME" or "file:PATH", such as "file:bedrock.key".')
    authorization: Authorization = Field(
        "bearer", description='How the key is sent: "bearer" is "Authorization: Bearer KEY".'
    )
    auth_mode: Literal["", AuthMode] = Field(
        "",
        description='Whose key goes upstream: the provider\'s ("override", also meant by ""), the client\'s, or the '
        'provider\'s where it has none ("passthrough"), or nobody\'s ("none").',
    )
    cost_basis: str | None = Field(None, description='The price list that costs are counted by: "bedrock-us".')
    base_models: dict[str, ModelId] = Field(
        default_factory=dict,
        description='The model behind an opaque name, such as an ARN: {"arn:...": "amazon.nova-lite-v1:0"}.',
    )
    compatibility: dict[str, bool] | None = Field(
        None, description='What the provider speaks, by flag: {"bedrock_converse": true}.'
    )
    capabilities: Annotated[dict[str, Any], Holds(CapabilitiesSection, "map")] = Field(
        default_factory=dict,
        description="What models can do, by name or pattern; a later entry wins: "
        '{"*claude-opus-4*": {"prefill": false}}.',
    )
    anthropic_betas: Annotated[dict[str, Any], Holds(BetasSection)] = Field(
        default_factory=dict,
        description='Which of Anthropic\'s betas are sent, beside what is known: {"drop": ["interleaved-thinking-*"]}.',
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Settings that plugins read: {}.")
    name: str = Field("", description='A name for people: "Amazon Bedrock, Ohio".')
    description: str = Field("", description='A sentence for people: "the team\'s account".')
    disabled: bool = Field(False, description="Whether the provider is listed but never called: true or false.")
    preference: int = Field(
        0, description="Which provider serves a model that several have: the one with the higher number, such as 10."
    )
    add_headers: Headers = Field((), description='Headers that every request upstream gets: ["X-Team: research"].')
    on_loss: Literal["report", "refuse"] = Field(
        "report", description='What happens to a call that cannot be translated whole: "report" or "refuse".'
    )
    model_cost_map: Annotated[_List, Holds(CostRuleSection, "list")] = Field(
        (), description='Prices of models by those of others: [{"match": "m-*", "as": "n", "adjustment": 1.1}].'
    )
    upstream: Planned = Field(None, description="Another gateway on the way, as the hosted product has it.")
    aws: Planned = Field(None, description='Where requests are signed for AWS: {"region": "us-east-1"}.')
    timeouts: Planned = Field(None, description='The provider\'s own timeouts in seconds: {"read_seconds": 600}.')


class CapabilitySection(Section):
    """What a grant gives. Several objects add up."""

    role: Role | None = Field(
        None, description='"user" sees their own sessions, "admin" sees all; without a role every call is refused.'
    )
    models: Patterns = Field(
        (), description='Models, by a pattern over provider and model: "bedrock/**", or a list of them.'
    )
    add_headers: Headers = Field((), description='Headers that calls of these models get: ["X-Project: a"].')
    read_metrics: bool = Field(False, description="Whether /metrics may be read, by admins too: true or false.")
    read_pricing: bool = Field(False, description="Whether the price list may be read, by admins too: true or false.")
    quotas: Annotated[_List, Holds(BucketSection, "list")] = Field(
        (), description='Quotas that calls are charged to: [{"bucket": "daily:<user>"}].'
    )
    rate_limits: Annotated[_List, Holds(RateLimitSection, "list")] = Field(
        (), description='How much may be asked for in a time: [{"requests": "60/min"}, {"tokens": "200000/min"}].'
    )
    send_hooks: Annotated[_List, Holds(SendHookSection, "list"), PLANNED, _NO_HOOKS] = Field(
        (),
        description='Hooks that are called for the calls of a grant: [{"name": "audit", "events": ["pre_request"]}].',
    )
    connectors: Annotated[Patterns, PLANNED] = Field(
        (), description='Tools and resources, by connector, category and name: ["wiki/tools/*"].'
    )
    mcp_tools: Annotated[Patterns, PLANNED] = Field((), description='Tools of MCP servers: "wiki/*".')
    mcp_resources: Annotated[Patterns, PLANNED] = Field((), description='Resources of MCP servers: "wiki/*".')
    mcp_templates: Annotated[Patterns, PLANNED] = Field((), description='Resource templates of MCP servers: "wiki/*".')
    skills: Planned = Field(None, description="Skills, as the hosted product has them.")
    filterable_headers: Planned = Field(None, description='Headers by which sessions may be filtered: ["x-team"].')
    direct_paths: Planned = Field(None, description='Paths that may be called directly: ["/direct/**"].')
    enable_chat_ui: Annotated[bool, PLANNED] = Field(False, description="Whether the chat page opens: true or false.")
    set_cors: Annotated[bool, PLANNED] = Field(False, description="Whether CORS headers are set: true or false.")
    cors_paths: Planned = Field(None, description='Paths that get CORS headers: ["/v1/**"].')
    allow_origin: Planned = Field(None, alias="Access-Control-Allow-Origin", description='That CORS header: "*".')
    allow_methods: Planned = Field(None, alias="Access-Control-Allow-Methods", description='That CORS header: "GET".')
    allow_headers: Planned = Field(None, alias="Access-Control-Allow-Headers", description='That CORS header: "*".')


class GrantSection(Section):
    """Who gets which capabilities. Everything is denied that no grant allows."""

    src: tuple[str, ...] = Field(
        strict=False,
        description='The callers: "*", a login, "group:NAME", "tag:NAME" or "(loopback)", such as ["group:eng"].',
        examples=['"src": ["*"]'],
    )
    app: Annotated[dict[str, list[Any]], Holds(CapabilitySection, "lists", CAPABILITIES)] = Field(
        description='What the sources get: {"tailscale.com/cap/aperture": [{"role": "user"}, {"models": "**"}]}.',
        examples=['"app": {"tailscale.com/cap/aperture": [{"role": "user"}]}'],
    )


class OldModelSection(Section):
    """Models of a provider, as grants named them once."""

    provider: Name | None = Field(None, description='The provider\'s key: "bedrock"; left out, any.')
    model: Name | None = Field(None, description='The model: "us.amazon.nova-lite-v1:0"; left out, all of them.')


class OldItemSection(CapabilitySection):
    """A capability of the first generation."""

    providers: Annotated[_List, Holds(OldModelSection, "list")] = Field(
        (), description='Models: [{"provider": "bedrock", "model": "us.amazon.nova-lite-v1:0"}].'
    )
    hook: Annotated[Planned, _NO_HOOKS] = Field(
        None, description='A hook that is called for the calls of a grant: {"hook": "audit", "match": {}}.'
    )


class TempGrantSection(Section):
    """A grant of an older form: the same with `app`, or a list of capabilities."""

    src: tuple[str, ...] = Field(
        strict=False, description='The callers, as in grants: ["group:eng"].', examples=['"src": ["*"]']
    )
    app: Annotated[dict[str, list[Any]] | None, Holds(CapabilitySection, "lists", CAPABILITIES)] = Field(
        None, description='What the sources get, as in grants: {"tailscale.com/cap/aperture": [{"role": "user"}]}.'
    )
    grants: Annotated[_List, Holds(OldItemSection, "list")] = Field(
        (), description='What the sources get: [{"role": "user"}, {"providers": [{"provider": "bedrock"}]}].'
    )


class AliasSection(Section):
    """One name for several models of providers; every call goes to one of them."""

    dst: Targets = Field(
        description='The models, each with its provider: ["bedrock/us.amazon.nova-lite-v1:0"].',
        examples=['"dst": ["bedrock/us.amazon.nova-lite-v1:0"]'],
    )
    strategy: _StrategyName | None = Field(
        None,
        description='How one of the models is picked: "first", "random", "round_robin", or "session", which keeps '
        "a session at one model.",
    )


class AliasesSection(Section):
    strategy: _StrategyName | None = Field(
        None, description='How one is picked where an alias has no strategy: "first".'
    )
    models: Annotated[dict[str, Any], Holds(AliasSection, "map")] = Field(
        default_factory=dict, description='By the name that clients use: {"fast": {"dst": ["bedrock/m"]}}.'
    )


class ListenerSection(Section):
    """`identity` has no default of its own: it follows from the address, or must be said."""

    listen: str = Field(
        description='The address or socket: "127.0.0.1:8080", "[::1]:8080" or "unix:/run/irisgate/http.sock".',
        examples=['"listen": "127.0.0.1:8080"'],
    )
    identity: Mode | None = Field(
        None,
        description='How callers are known: "whois" (tailscaled says), "serve-headers" (tailscale serve, on a unix '
        'socket), "proxy-protocol" (and whois), "static" (all are one), "loopback" (this machine).',
    )
    login: Name | None = Field(None, description='The login of a static identity: "ci@example.com".')
    groups: Names = Field((), description='The groups of a static identity: ["eng"].')
    tags: Names = Field((), description='The tags of a static identity that is a machine: ["tag:ci"].')
    tailscaled: SocketPath | None = Field(
        None, description='The socket of the tailscaled that is asked who calls: "/var/run/tailscale/tailscaled.sock".'
    )
    service: Service | None = Field(
        None, description='The Tailscale Service under which it is called: "svc:ai"; its grants count then.'
    )
    proxies: Addresses = Field((), description='Addresses that may speak by the PROXY protocol: ["10.0.0.7"].')
    tls: Annotated[Planned, _NO_TLS] = Field(
        None, description='Certificate and key: {"certificate": "c.pem", "key": "k.pem"}.'
    )

    @model_validator(mode="after")
    def _agrees(self) -> ListenerSection:
        address = parse_listen(self.listen)
        mode = self.identity or ("loopback" if address.loopback else None)
        if mode is None or (mode == "loopback" and not address.loopback and not address.unix):
            raise ValueError(needs_mode(self.listen))
        fault = self._misplaced(mode) or self._unusable(mode, address)
        if fault:
            raise ValueError(fault)
        return self

    def _misplaced(self, mode: Mode) -> str | None:
        """What is said that only another mode would read."""
        if mode != "static" and (self.login or self.groups or self.tags):
            who = "the login is (loopback) without" if mode == "loopback" else f'"{mode}" finds out who is calling'
            return f'"login", "groups" and "tags" need "identity": "static"; {who}'
        if mode not in {"whois", "proxy-protocol"} and (self.tailscaled or self.service):
            return '"tailscaled" and "service" need "identity": "whois" or "proxy-protocol"; leave them out otherwise'
        if mode != "proxy-protocol" and self.proxies:
            return '"proxies" needs "identity": "proxy-protocol"; leave it out otherwise'
        return None

    def _unusable(self, mode: Mode, address: Address) -> str | None:
        """Why the mode cannot work, or cannot be trusted, where the listener is."""
        if mode == "static" and not self.login and not self.tags:
            return '"identity": "static" needs a "login" (or "tags"), the caller that everyone there is'
        if any(not tag.startswith("tag:") for tag in self.tags):
            return 'each of "tags" starts with "tag:", as in "tag:ci"'
        if mode == "serve-headers" and not address.unix:
            return (
                '"identity": "serve-headers" works on a unix socket only, since anyone could send the headers to an '
                'address; listen on "unix:/run/irisgate/http.sock" and point tailscale serve at it'
            )
        if mode == "whois" and address.unix:
            return (
                '"identity": "whois" needs the address of the peer, and a unix socket has none; write '
                '"serve-headers" behind tailscale serve, or listen on an address'
            )
        if mode == "proxy-protocol" and not (address.unix or address.loopback or self.proxies):
            return (
                '"identity": "proxy-protocol" believes whoever connects; name the proxies\' addresses, such as '
                '"proxies": ["10.0.0.7"], or listen on 127.0.0.1 or a unix socket'
            )
        return None


class LimitsSection(Section):
    body_bytes: Bytes = Field(
        Limits().body_bytes, description="The largest body of a request in bytes, such as 33554432."
    )
    header_bytes: Bytes = Field(Limits().header_bytes, description="The longest header line in bytes, such as 16384.")


class ServerSection(Section):
    listeners: Annotated[Annotated[_List, Field(min_length=1)] | None, Holds(ListenerSection, "list")] = Field(
        None, description='Where the gateway listens: [{"listen": "127.0.0.1:8080"}].'
    )
    hosts: Hosts = Field((), description='Names under which it may be called: ["ai", "ai.example.ts.net"].')
    limits: Annotated[dict[str, Any], Holds(LimitsSection)] = Field(
        default_factory=dict, description='Sizes of requests in bytes: {"body_bytes": 33554432}.'
    )
    fetch: Annotated[dict[str, Any], Holds(FetchSection)] = Field(
        default_factory=dict,
        description='How files that clients name by URL are fetched: {"allow_hosts": ["*.example.com"]}.',
    )
    drain_seconds: float = Field(
        30, ge=0, le=86400, description="Seconds for which calls in flight may go on after a stop, such as 30."
    )


class StorageSection(Section):
    url: SqliteUrl = Field(None, description='Where records are stored: "sqlite:/var/lib/irisgate/irisgate.db".')
    retention: Retention = Field(
        "", description='How long calls and sessions are stored, such as "90d"; "" is for ever. Sums stay.'
    )


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


class TopSection(Section):
    """The configuration of the gateway."""

    schema_: Annotated[Any, WithJsonSchema({"type": "string"})] = Field(
        None, alias="$schema", description='A schema for editors: "./irisgate.schema.json".'
    )
    providers: Annotated[dict[str, Any], Holds(ProviderSection, "map")] = Field(
        default_factory=dict, description='Upstreams, by a key of one word: {"bedrock": {}}.'
    )
    grants: Annotated[_List, Holds(GrantSection, "list")] = Field(
        (), description='Who may use what: [{"src": ["*"], "app": {"tailscale.com/cap/aperture": []}}].'
    )
    temp_grants: Annotated[_List, Holds(TempGrantSection, "list")] = Field(
        (),
        description="Deprecated: grants of an older form, which are added to the grants: [].",
        json_schema_extra={"deprecated": True},
    )
    model_aliases: Annotated[dict[str, Any], Holds(AliasesSection)] = Field(
        default_factory=dict, description='Own names for models: {"models": {"fast": {"dst": ["bedrock/m"]}}}.'
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
        description='Labels of the metrics, and a listener of their own: {"listen": "127.0.0.1:9090"}.',
    )
    hooks: Annotated[dict[str, Any], Holds(HookSection, "map"), PLANNED, _NO_HOOKS] = Field(
        default_factory=dict, description='Hooks by name: {"audit": {"url": "https://hooks.example.com/seen"}}.'
    )
    exporters: Annotated[dict[str, Any], Holds(ExportersSection), PLANNED, _NO_EXPORT] = Field(
        default_factory=dict, description='Where records are exported to: {"s3": {"bucket_name": "usage"}}.'
    )
    auto_cost_basis: bool = Field(
        True, description="Whether a price list is found for providers that name none: true or false."
    )
    prices: FilePath = Field("", description='A file with prices of your own, beside this one: "prices.hujson".')
    database: Annotated[dict[str, Any], Holds(DatabaseSection)] = Field(
        default_factory=dict,
        description='What is stored of bodies: {"save_raws": true, "retention": {"duration": "30d"}}.',
    )
    mcp: Annotated[dict[str, Any], Holds(McpSection), PLANNED, _NO_TOOLS] = Field(
        default_factory=dict, description='MCP servers: {"servers": {}}.'
    )
    connectors: Annotated[dict[str, Any], Holds(ConnectorsSection), PLANNED, _NO_TOOLS] = Field(
        default_factory=dict, description='Servers of tools and resources: {"servers": {}}.'
    )
    flags: Planned = Field(None, description='Features that are switched: {"connectors": {"value": true}}.')
    chat_models: Planned = Field(None, description='Models of the chat page: ["bedrock/m"].')
