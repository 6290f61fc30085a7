"""The configuration as the gateway uses it: frozen values, defaults filled in, secrets resolved.

- `load.py` makes these values from the document. The document's keys are described in `root.py` and `sections/`.
- Nothing here reads, checks or warns.
- A value never changes: a changed file gives a new `Config` as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import SecretStr

from gateway.config.credentials import AwsSettings, CredentialSource, PooledKey, ServiceAccount
from gateway.config.document.secrets import Secret
from gateway.config.exporters import Exporter, S3Bucket
from gateway.config.server import Listener, Server
from gateway.config.storage import Storage
from gateway.contract.settings import Settings
from gateway.money.prices.rows import Entry
from gateway.money.prices.table import CostRule
from gateway.money.quotas.definitions import Chain, Quota, RateLimit

Authorization = Literal["bearer", "x-api-key", "x-goog-api-key", "sigv4"]
Role = Literal["user", "admin"]
Permission = Literal["read_metrics", "read_pricing"]
AuthMode = Literal["override", "passthrough", "none"]
OnError = Literal["refuse", "pass"]
Strategy = Literal["first", "random", "round_robin", "session", "weighted", "least_in_flight", "cheapest"]
AutoCaching = Literal[False, True, "all"]
CacheLifetime = Literal["5m", "1h"]


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """The conditions under which a model at a provider gets no calls for a while.

    The defaults suit one team, whose agents make a few calls a minute. Three failures of five attempts in a minute are
    more than usual noise. Other libraries (resilience4j, Polly) require at least 100 attempts, but one team does not
    make as many in a minute. If the circuit opens by mistake, another provider serves the calls for 15 seconds.
    """

    enabled: bool = True
    failures: float = 0.5
    """Share of failed attempts at which the circuit opens. resilience4j and LiteLLM have the same default."""
    calls: int = 5
    """Minimum number of attempts in the window before the circuit may open. For comparison, Envoy ejects a host after 5
    errors in a row."""
    window_seconds: float = 60
    open_seconds: float = 15
    """Seconds for which an open circuit lets no attempt pass. For comparison: Polly waits 5 s, Envoy 30 s, resilience4j
    60 s."""
    half_open: int = 3
    """Number of probes that may pass while the circuit is half open. After this number of successes, the circuit
    closes."""
    slow_start_seconds: float = 30
    outlier: float = 0.2
    """The circuit of a model opens if the model's failure rate exceeds that of its peers by more than this number (0 to
    1). With 1, it never opens for this reason.

    The peers are the models that can serve the model's calls: the same model at other providers, and the other targets
    of the model's aliases. Their failure rate is that of all their calls together.
    """


@dataclass(frozen=True, slots=True)
class Timeouts:
    connect_seconds: float = 10
    """Maximum number of seconds for resolving the host, connecting, and the TLS handshake."""
    head_seconds: float = 600
    """Maximum number of seconds from the connection to the head of the reply. In an unstreamed reply, the head comes
    only when the model has finished. The default is that of the SDKs of OpenAI and Anthropic.
    """
    first_event_seconds: float = 300
    """Maximum number of seconds from the head of a stream to its first event. A local server may need minutes
    to process a long prompt."""
    read_seconds: float = 600
    """Maximum number of seconds between two events of a stream. A model may think for minutes. An unstreamed body may
    take this time plus its size divided by a minimum rate."""
    stream_seconds: float = 7200
    """Maximum number of seconds from the head of a stream to its end, even if events keep coming. This limit is needed
    because a provider's pings count as events. Bedrock lets a model work for 60 minutes ("Important: Timeout
    Configuration" in the user guide of Amazon Nova)."""

    def within(self, seconds: float) -> Timeouts:
        """Return the timeouts of an attempt whose first event must come within `seconds`.

        Each timeout that applies before the first event is at most `seconds`. The others are unchanged.
        """
        return replace(
            self,
            connect_seconds=max(0.0, min(self.connect_seconds, seconds)),
            head_seconds=max(0.0, min(self.head_seconds, seconds)),
            first_event_seconds=max(0.0, min(self.first_event_seconds, seconds)),
        )


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of models. A `disabled` provider is listed, but never called."""

    id: str
    baseurl: str
    """The base URL as written. It may end with `/` or with a version, such as `/v1`. The code that appends a path to
    the URL handles both.
    """
    models: tuple[str, ...] = ()
    discovers: bool = False
    """True if the gateway asks the provider for its models. Then `models` is empty until the models are known."""
    apikey: Secret = field(default_factory=Secret)
    """The provider's only API key. It is empty if the provider has several keys (`apikeys`) or none."""
    apikeys: tuple[PooledKey, ...] = ()
    """Several keys, each of which can be used for any call and has rate limits of its own at the provider. The value is
    () for a provider with one key or none.
    """
    authorization: Authorization = "bearer"
    request_metadata: tuple[tuple[str, str], ...] = ()
    """Metadata for Bedrock's logs of model invocations. Values with `<user>` or `<node>` depend on the caller."""
    issuer: AwsSettings | CredentialSource | None = None
    """The source of credentials that change at run time. The value is None for fixed keys. It is also None if the
    provider has several keys (`apikeys`) or no key.
    """
    auth_mode: AuthMode = "override"
    """The choice of the credential that is sent to the provider:

    - `override`: the configured credential;
    - `passthrough`: the client's credential, or the configured one if the client sends none;
    - `none`: no credential."""
    cost_basis: str | None = None
    """The configured price list. If it is None, the enabled API formats may imply a list (`auto_cost_basis`)."""
    model_cost_map: tuple[CostRule, ...] = ()
    """Rules for the prices of the provider's models. The first rule that matches is used."""
    base_models: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Maps a name in `models` to the id of the real model. An entry is needed for a name that does not contain the id,
    such as the ARN of an inference profile."""
    flags: tuple[str, ...] = ()
    """Enabled compatibility flags (API formats) in the document's order, or the default flag. Unknown flags are left
    out."""
    price_lists: tuple[str, ...] = ()
    """The price lists that the enabled API formats imply (`Flag.price_list`)."""
    capabilities: tuple[tuple[str, Mapping[str, Any]], ...] = field(default=(), hash=False)
    """Corrections of the gateway's data about the provider's models. Each is a pattern for model names, and the fields
    of `Caps` to set. A later correction overrides an earlier one.
    """
    options: Mapping[str, Settings] = field(default_factory=dict, hash=False)
    """The options of each compatibility flag (API format) that has options, by the flag's name."""
    host: str = ""
    """The host in the base URL, in lower case."""
    name: str = ""
    description: str = ""
    disabled: bool = False
    preference: int = 0
    """The rank among providers of the same model. The provider with the highest number is used first. If several have
    this number, `Resilience.strategy` chooses among them. If a provider fails, the next one is used
    (`Resilience.failover`)."""
    add_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Headers added to every request. The repr leaves them out, because some providers take their key in a header."""
    authorities: str = field(default="", repr=False)
    """The accepted CA certificates in PEM format. The value is "" if the system's CA certificates are accepted."""
    calls_in_flight: int | None = None
    """Maximum number of calls in flight at the provider. It is None for no limit."""
    weight: int = 1
    """The provider's weight for the strategy `weighted`. A provider with weight 2 gets twice as many sessions as a
    provider with weight 1."""
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    """The provider's own settings of the circuit breaker. Missing settings are taken from `Resilience`."""
    timeouts: Timeouts = Timeouts()
    """The provider's own timeouts. Missing timeouts are taken from the section `resilience`."""
    on_loss: Literal["report", "refuse"] = "report"
    auto_cache: AutoCaching = False
    """The requests to which the gateway adds cache marks. These ask for prompt caching, as `cache_control` does.

    - False: none;
    - True: requests of clients whose API has no cache marks;
    - "all": all requests without cache marks."""
    auto_cache_ttl: CacheLifetime = "5m"
    """The lifetime of the cache entries that `auto_cache` creates."""
    advertise: tuple[str, ...] = ("native",)
    """The client APIs that `/api/providers` shows to launchers:

    - `native`: the provider's own compatibility flags;
    - `reachable`: the flags of all APIs by which clients can reach the provider;
    - a list of compatibility flags: only these."""

    @property
    def as_written(self) -> Provider:
        """The provider without discovered models. The result changes only if the configuration changes."""
        return replace(self, models=(), base_models={}) if self.discovers else self

    @property
    def has_credential(self) -> bool:
        """Whether the gateway has a key of its own for the provider, or can obtain one."""
        return bool(self.apikey or self.apikeys or self.issuer)

    def issuer_of(self, key: str) -> AwsSettings | CredentialSource | None:
        """Return the source of the credentials of one key, or None if the key is fixed.

        `key` is the key's name in `apikeys`. It is "" for a provider without `apikeys`.
        """
        if not key:
            return self.issuer  # without a search, because most calls have only one key
        return next((each.source for each in self.apikeys if each.name == key), None)


class DirectPattern(NamedTuple):
    """A pattern of `direct_paths`: the requests below `/direct` that a capability allows."""

    methods: frozenset[str]
    path: str
    """A glob for decoded paths, such as `/direct/openai/v1/files/**`."""


@dataclass(frozen=True, slots=True)
class Capability:
    """The capabilities (rights) that one object of a grant gives."""

    role: Role | None = None
    models: tuple[str, ...] = ()
    """Globs for names of the form "provider/model"."""
    permissions: frozenset[Permission] = frozenset()
    add_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Headers added to requests for the capability's models, or to all requests if the capability names no models."""
    quotas: tuple[Chain, ...] = ()
    """Chains of quotas that pay for requests to the capability's models, or for all requests if no models are named.

    When the first quota of a chain is empty, the next quotas of the chain pay. A request is refused if a quota in one
    of these chains is not defined.
    """
    rate_limits: tuple[RateLimit, ...] = ()
    filterable_headers: tuple[str, ...] = ()
    """Names in lower case of the recorded headers by which the caller may filter. "*" stands for all."""
    direct_paths: tuple[DirectPattern, ...] = ()
    """Patterns of the requests that may be forwarded to a provider unchanged. Admins need no pattern."""
    origin: str = field(default="", compare=False)
    """The position of the capability's object in the document or the tailnet policy. Explanations name it as the reason
    why a call is allowed."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The callers that a grant is for, and the capabilities that they get. No grant takes a capability away."""

    src: tuple[str, ...]
    capabilities: tuple[Capability, ...]


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for one or more models of providers. If a call fails at one of the models, it goes to the next model."""

    targets: tuple[tuple[str, str], ...]
    """Provider and model of each target, in the document's order."""
    strategy: Strategy = "first"


@dataclass(frozen=True, slots=True)
class Bodies:
    """Settings for storing the bodies of calls."""

    limit: int = 0
    """Maximum number of bytes stored of a request's body, and of a reply's body. It is 0 if bodies are not stored."""
    retention: float | None = None
    """Seconds for which bodies are stored, but never longer than the records of their calls. The value is 0 if no
    bodies are kept. It is None if bodies are stored as long as the records.
    """

    @property
    def are_forgotten(self) -> bool:
        """True for zero retention: nothing that a client or a model wrote is stored or logged. This also applies to
        messages of errors that may quote such text.
        """
        return self.retention == 0


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    users: int = 0
    """Maximum number of callers (logins) with metric series of their own. All other callers share the series "other".
    With 0, there are no series by caller."""
    listener: Listener | None = None
    """A loopback listener that serves only the metrics and needs no grant. It is None if there is none."""


@dataclass(frozen=True, slots=True)
class Resilience:
    timeouts: Timeouts = Timeouts()
    """The timeouts of providers that have no timeouts of their own."""
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    failover: bool = True
    """True if another candidate (provider and model) serves a call that fails before the first event of its reply."""
    max_attempts: int = 3
    """Maximum number of attempts of a call."""
    total_seconds: float = 600
    """Maximum number of seconds from the first attempt of a call to the first event of its reply, for calls that may
    have several attempts. The default is that of the SDKs of OpenAI and Anthropic.
    """
    retry_budget: float = 0.1
    """Allowed ratio of retries to calls within the last 10 seconds. A few retries are always allowed
    (`call/retry_budget.py`)."""
    strategy: Strategy = "first"
    """The strategy for choosing a provider of a model if several providers have the same, highest `preference`."""
    sticky_seconds: float = 300
    """Seconds after a session's last call for which the session's next call goes to the same provider. With 0, sessions
    have no effect on the choice. The default is the time for which Anthropic and Bedrock keep a prompt in the cache.
    """
    retry_after_seconds: float = 0
    """Longest `Retry-After`, in seconds, for which the gateway waits before another attempt. It waits only if no other
    candidate (provider and model) is left."""


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """A filter that is switched on, with its settings."""

    name: str
    settings: Any = field(repr=False)
    """An instance of the filter's `Settings`."""
    on_error: OnError | None = None
    """Whether a call is refused or continues if the filter fails. The value is None for the filter's own default."""


@dataclass(frozen=True, slots=True)
class Config:
    providers: Mapping[str, Provider] = field(default_factory=lambda: MappingProxyType({}))
    """Providers by their name in the document, in the document's order."""
    grants: tuple[Grant, ...] = ()
    aliases: Mapping[str, Alias] = field(default_factory=lambda: MappingProxyType({}))
    """Aliases by the name that clients send as the model. An alias takes precedence over a model of the same name."""
    quotas: Mapping[str, Quota] = field(default_factory=lambda: MappingProxyType({}))
    server: Server = field(default_factory=Server)
    storage: Storage = field(default_factory=Storage)
    bodies: Bodies = Bodies()
    filterable_headers: tuple[str, ...] = ()
    """Names in lower case of the headers whose values are recorded with calls."""
    exporters: tuple[Exporter, ...] = ()
    """The exports of calls that are switched on."""
    resilience: Resilience = Resilience()
    metrics: MetricsSettings = MetricsSettings()
    auto_cost_basis: bool = True
    """True if a provider without a `cost_basis` gets the price list that its compatibility flags imply."""
    plugins: tuple[PluginConfig, ...] = field(default=(), hash=False)
    """The filters that are switched on, in the order in which calls pass them."""
    prices: tuple[Entry, ...] = field(default=(), hash=False)
    """Rows of the operator's own price file. They take precedence over the gateway's rows."""


def active_secrets(config: Config) -> frozenset[str]:
    """Return all secrets of a configuration: API keys, private keys of service accounts, values of added headers,
    secret settings of plugins, the database's password, and the secret keys of exports' buckets.
    """
    providers = config.providers.values()
    headers = [provider.add_headers for provider in providers]
    headers += [capability.add_headers for grant in config.grants for capability in grant.capabilities]
    values = [value for entries in headers for _, value in entries]
    settings = [plugin.settings for plugin in config.plugins]
    settings += [options for provider in providers for options in provider.options.values()]
    values += [value.get_secret_value() for each in settings for _, value in each if isinstance(value, SecretStr)]
    values += [key.secret.value for provider in providers for key in provider.apikeys]
    if config.storage.postgres is not None:
        values.append(config.storage.postgres.password.value)
    values += [export.to.secret.value for export in config.exporters if isinstance(export.to, S3Bucket)]
    sources = [provider.issuer for provider in providers]
    sources += [key.source for provider in providers for key in provider.apikeys]
    values += [source.key.value for source in sources if isinstance(source, ServiceAccount)]
    return frozenset(filter(None, [*(provider.apikey.value for provider in providers), *values]))
