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
"""Where tailscaled listens on Linux unless it was told otherwise."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An upstream. `disabled` ones stay listed and are never called."""

    id: str
    baseurl: str
    """As written; a trailing `/` or version, such as `/v1`, is dealt with where paths are joined."""
    models: tuple[str, ...] = ()
    apikey: Secret = field(default_factory=Secret)
    authorization: Authorization = "bearer"
    auth_mode: AuthMode = "override"
    """Whose credential goes upstream: the provider's own, the client's (ours where it has none), or nobody's."""
    cost_basis: str | None = None
    """The price list; None: found by the flags where `auto_cost_basis` allows, or unknown."""
    model_cost_map: tuple[CostRule, ...] = ()
    """The first one that matches a model decides by which model's price it is counted."""
    base_models: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What is behind names that tell nothing, such as ARNs of inference profiles: by that name, a model id."""
    flags: tuple[str, ...] = ()
    """Enabled compatibility flags, in the document's order, after the default rule; unknown ones are left out."""
    capabilities: tuple[tuple[str, Mapping[str, Any]], ...] = field(default=(), hash=False)
    """What of its models' abilities differs from the gateway's data: patterns over their names, and fields of `Caps`.
    A later one wins."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Settings that plugins read; among them `anthropic_betas`, where the provider's differ from what is known."""
    name: str = ""
    description: str = ""
    disabled: bool = False
    preference: int = 0
    """Higher wins; equal ones go by the document's order."""
    add_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Not in the repr: some upstreams take their key in such a header."""
    on_loss: Literal["report", "refuse"] = "report"


@dataclass(frozen=True, slots=True)
class Capability:
    """What one capability object of a grant gives."""

    role: Role | None = None
    models: tuple[str, ...] = ()
    """Globs over "provider/model"."""
    permissions: frozenset[Permission] = frozenset()
    add_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Added to requests that the capability applies to: those of its models, or all when it names none."""
    quotas: tuple[str, ...] = ()
    """Names of the quotas that such requests are charged to; one that is not defined refuses them."""
    rate_limits: tuple[RateLimit, ...] = ()
    origin: str = field(default="", compare=False)
    """Where it is written, for those who ask which grant lets a call through."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Who gets which capabilities. Grants only ever add."""

    src: tuple[str, ...]
    capabilities: tuple[Capability, ...]


@dataclass(frozen=True, slots=True)
class Alias:
    """One name for several offers; every call goes to one of them."""

    targets: tuple[tuple[str, str], ...]
    """Provider and model of each, in the document's order."""
    strategy: Strategy = "first"


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the gateway listens, and how it knows who is calling there."""

    listen: str = "127.0.0.1:8080"
    """As written: `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`."""
    host: str = "127.0.0.1"
    """Without brackets; "" on a unix socket."""
    port: int = 8080
    unix: str = ""
    """Path of the socket; "" on an address."""
    identity: Mode = "loopback"
    login: str = ""
    """Of the static identity, as are `groups` and `tags`; never empty there."""
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tailscaled: str = TAILSCALED
    """The socket that `whois` and `proxy-protocol` ask."""
    service: str = ""
    """`svc:NAME` where the gateway is called as a Tailscale Service: its grants count instead of the node's."""
    proxies: frozenset[str] = frozenset()
    """Addresses that may speak for others by the PROXY protocol; where none is named, this machine's own."""


@dataclass(frozen=True, slots=True)
class Limits:
    body_bytes: int = 32 * 1024 * 1024
    header_bytes: int = 16 * 1024
    """Of one header line, and of the request line: ARNs and beta lists are long."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """Files that clients name by URL. Only addresses of the public internet are connected to, on ports 80 and 443."""

    enabled: bool = True
    max_bytes: int = 10 * 1024 * 1024
    """Of one file; those of one call are together no more than `Limits.body_bytes`."""
    timeout_seconds: float = 20
    """For one file, with its redirects."""
    allow_hosts: tuple[str, ...] = ()
    """The only hosts that may be named, in lower case, with `*.` for all below one; () for any."""
    private_hosts: tuple[str, ...] = ()
    """Hosts inside (`HOST`, or `HOST:PORT` for a port of its own) that may be named as well."""


@dataclass(frozen=True, slots=True)
class Server:
    listeners: tuple[Listener, ...] = (Listener(),)
    hosts: tuple[str, ...] = ()
    """Names under which the gateway may be called, in lower case, without ports."""
    limits: Limits = Limits()
    fetch: Fetching = Fetching()
    drain_seconds: float = 30
    """How long calls in flight may go on after a stop was asked for."""


@dataclass(frozen=True, slots=True)
class Storage:
    url: str | None = None
    """`sqlite:PATH`; None means a file in the state folder."""
    retention: float | None = None
    """Seconds for which calls and sessions are kept; None for ever. Sums of them stay."""


@dataclass(frozen=True, slots=True)
class Bodies:
    """What is kept of the bodies of calls."""

    limit: int = 0
    """Bytes of each, of a request's and of a reply's; 0: none are kept."""
    retention: float | None = None
    """Seconds, never more than their calls'; None for ever, 0 not at all, also of what was kept before."""


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    users: int = 0
    """Callers who have series of their own, by their login; all others are "other". 0: none, and no series at all."""
    listener: Listener | None = None
    """Where the metrics alone are served, to whoever can connect: an address that only this machine reaches."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    connect_seconds: float = 10
    read_seconds: float = 600
    """Between two reads of a reply: a model may think for minutes."""


@dataclass(frozen=True, slots=True)
class Resilience:
    timeouts: Timeouts = Timeouts()


@dataclass(frozen=True, slots=True)
class Config:
    providers: Mapping[str, Provider] = field(default_factory=lambda: MappingProxyType({}))
    """In the document's order."""
    grants: tuple[Grant, ...] = ()
    aliases: Mapping[str, Alias] = field(default_factory=lambda: MappingProxyType({}))
    """By the name that clients use; it stands before a model of the same name."""
    quotas: Mapping[str, Quota] = field(default_factory=lambda: MappingProxyType({}))
    server: Server = Server()
    storage: Storage = Storage()
    bodies: Bodies = Bodies()
    resilience: Resilience = Resilience()
    metrics: MetricsSettings = MetricsSettings()
    auto_cost_basis: bool = True
    """The price list of a provider that names none is found by its flags."""
    prices: tuple[Entry, ...] = field(default=(), hash=False)
    """Rows of the operator's own price file, which stand before those of the gateway's."""


def active_secrets(config: Config) -> frozenset[str]:
    """Return the secrets that a configuration uses, wherever they came from."""
    providers = config.providers.values()
    headers = [provider.add_headers for provider in providers]
    headers += [capability.add_headers for grant in config.grants for capability in grant.capabilities]
    values = (value for entries in headers for _, value in entries)
    return frozenset(filter(None, [*(provider.apikey.value for provider in providers), *values]))
