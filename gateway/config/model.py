"""The configuration as the gateway uses it: frozen values, defaults filled in, secrets resolved.

- `load.py` makes these values from the document; the document's keys are described in `root.py` and `sections/`.
- Nothing here reads, checks or warns.
- A value never changes: a changed file gives a new `Config` as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from gateway.config.document.secrets import Secret
from gateway.money.prices.rows import Entry
from gateway.money.prices.table import CostRule
from gateway.money.quotas.definitions import Quota, RateLimit

Authorization = Literal["bearer", "x-api-key", "x-goog-api-key"]
Role = Literal["user", "admin"]
Permission = Literal["read_metrics", "read_pricing"]
AuthMode = Literal["override", "passthrough", "none"]
Mode = Literal["loopback", "static", "whois", "serve-headers", "proxy-protocol"]
Strategy = Literal["first", "random", "round_robin", "session"]

TAILSCALED: Final = "/var/run/tailscale/tailscaled.sock"
"""The path of tailscaled's socket on Linux, unless tailscaled was started with another."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An upstream. A `disabled` one is listed and never called."""

    id: str
    baseurl: str
    """The base URL as written. A trailing `/` or version, such as `/v1`, is handled where paths are appended."""
    models: tuple[str, ...] = ()
    apikey: Secret = field(default_factory=Secret)
    authorization: Authorization = "bearer"
    auth_mode: AuthMode = "override"
    """The credential that goes upstream: the provider's own, the client's (the provider's without one), or none."""
    cost_basis: str | None = None
    """The price list; None if it is derived from the flags (`auto_cost_basis`), or unknown."""
    model_cost_map: tuple[CostRule, ...] = ()
    """Rules for the prices of the provider's models; the first rule that matches counts."""
    base_models: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Models behind opaque names such as ARNs of inference profiles, by that name."""
    flags: tuple[str, ...] = ()
    """Enabled compatibility flags, in the document's order, after the default rule; unknown ones are left out."""
    capabilities: tuple[tuple[str, Mapping[str, Any]], ...] = field(default=(), hash=False)
    """Corrections of the gateway's data about the provider's models: patterns over their names, each with fields of
    `Caps`. A later one wins.
    """
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Settings for plugins. `anthropic_betas` is among them if the provider's betas differ from the gateway's data."""
    name: str = ""
    description: str = ""
    disabled: bool = False
    preference: int = 0
    """The provider with the higher number serves a model that several have; equal ones go by the document's order."""
    add_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Headers of every request. They are left out of the repr, because some upstreams take their key in a header."""
    on_loss: Literal["report", "refuse"] = "report"
    advertise: tuple[str, ...] = ("native",)
    """The flags that launchers are shown: `native` or `reachable`, or the flags themselves."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Capabilities that one object of a grant gives."""

    role: Role | None = None
    models: tuple[str, ...] = ()
    """Globs over "provider/model"."""
    permissions: frozenset[Permission] = frozenset()
    add_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Headers added to requests that the capability applies to: those of its models, or all if it names none."""
    quotas: tuple[str, ...] = ()
    """Names of the quotas that such requests are charged to; a quota that is not defined refuses them."""
    rate_limits: tuple[RateLimit, ...] = ()
    origin: str = field(default="", compare=False)
    """The place of the object, to explain which grant allows a call."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Callers and their capabilities. A grant only ever adds."""

    src: tuple[str, ...]
    capabilities: tuple[Capability, ...]


@dataclass(frozen=True, slots=True)
class Alias:
    """One name for several offers; every call goes to one of them."""

    targets: tuple[tuple[str, str], ...]
    """Provider and model of each target, in the document's order."""
    strategy: Strategy = "first"


@dataclass(frozen=True, slots=True)
class Listener:
    """An address or socket, and how the callers there are identified."""

    listen: str = "127.0.0.1:8080"
    """The address as written: `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`."""
    host: str = "127.0.0.1"
    """The host without brackets; "" on a unix socket."""
    port: int = 8080
    unix: str = ""
    """The path of the socket; "" on an address."""
    identity: Mode = "loopback"
    login: str = ""
    """The login of the static identity, never empty in that mode; `groups` and `tags` belong to it too."""
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tailscaled: str = TAILSCALED
    """The tailscaled socket that `whois` and `proxy-protocol` ask."""
    service: str = ""
    """`svc:NAME` if the gateway is called as a Tailscale Service, whose grants then count instead of the node's."""
    proxies: frozenset[str] = frozenset()
    """Addresses that may speak for others by the PROXY protocol; if there are none, this machine's own."""


@dataclass(frozen=True, slots=True)
class Limits:
    body_bytes: int = 32 * 1024 * 1024
    header_bytes: int = 16 * 1024
    """Most bytes of a header line and of the request line: ARNs and beta lists are long."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """Files that clients name by URL. Only addresses of the public internet are connected to, on ports 80 and 443."""

    enabled: bool = True
    max_bytes: int = 10 * 1024 * 1024
    """Most bytes of one file; all files of a call together have at most `Limits.body_bytes`."""
    timeout_seconds: float = 20
    """Seconds for one file, with its redirects."""
    allow_hosts: tuple[str, ...] = ()
    """The only hosts that may be named, in lower case, with `*.` for all below one; () for any."""
    private_hosts: tuple[str, ...] = ()
    """Hosts on private addresses that may be named as well: `HOST`, or `HOST:PORT` for that port alone."""


@dataclass(frozen=True, slots=True)
class Server:
    listeners: tuple[Listener, ...] = (Listener(),)
    hosts: tuple[str, ...] = ()
    """Names under which the gateway may be called, in lower case, without ports."""
    limits: Limits = Limits()
    fetch: Fetching = Fetching()
    drain_seconds: float = 30
    """Seconds for which calls in flight may go on after a stop."""


@dataclass(frozen=True, slots=True)
class Storage:
    url: str | None = None
    """`sqlite:PATH`; None for a file in the state folder."""
    retention: float | None = None
    """Seconds for which calls and sessions are stored; None for ever. Sums stay."""


@dataclass(frozen=True, slots=True)
class Bodies:
    """Settings for the bodies of calls."""

    limit: int = 0
    """Most bytes of a request's body, and of a reply's; 0 if none are stored."""
    retention: float | None = None
    """Seconds for which bodies are stored, never more than their calls; None for ever. 0 also removes bodies stored
    before.
    """


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    users: int = 0
    """Most callers that have series of their own, by login; all others are "other". 0 for no such series at all."""
    listener: Listener | None = None
    """The loopback listener that serves only the metrics, without a grant."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    connect_seconds: float = 10
    read_seconds: float = 600
    """Seconds between two reads of a reply: a model may think for minutes."""


@dataclass(frozen=True, slots=True)
class Resilience:
    timeouts: Timeouts = Timeouts()


@dataclass(frozen=True, slots=True)
class Config:
    providers: Mapping[str, Provider] = field(default_factory=lambda: MappingProxyType({}))
    """Providers by key, in the document's order."""
    grants: tuple[Grant, ...] = ()
    aliases: Mapping[str, Alias] = field(default_factory=lambda: MappingProxyType({}))
    """Aliases by the name that clients use; an alias comes before a model of the same name."""
    quotas: Mapping[str, Quota] = field(default_factory=lambda: MappingProxyType({}))
    server: Server = Server()
    storage: Storage = Storage()
    bodies: Bodies = Bodies()
    resilience: Resilience = Resilience()
    metrics: MetricsSettings = MetricsSettings()
    auto_cost_basis: bool = True
    """True if the price list of a provider that names none is derived from its flags."""
    prices: tuple[Entry, ...] = field(default=(), hash=False)
    """Rows of the operator's own price file, which come before the gateway's rows."""


def active_secrets(config: Config) -> frozenset[str]:
    """Return the secrets that a configuration uses, wherever they came from."""
    providers = config.providers.values()
    headers = [provider.add_headers for provider in providers]
    headers += [capability.add_headers for grant in config.grants for capability in grant.capabilities]
    values = (value for entries in headers for _, value in entries)
    return frozenset(filter(None, [*(provider.apikey.value for provider in providers), *values]))
