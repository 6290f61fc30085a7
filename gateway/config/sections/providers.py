"""The section `providers`: providers of models, with their URLs, API keys and models.

Sections within a provider are read in `capabilities.py`, `cost_rules.py` and `options.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.document.secrets import KEYFILE
from gateway.config.fields import (
    ADVERTISE,
    DISCOVER,
    Advertise,
    BaseUrl,
    FilePath,
    Headers,
    ModelId,
    ModelNames,
    RequestMetadata,
)
from gateway.config.model import AuthMode, Authorization, AutoCaching, CacheLifetime, Provider, Resilience
from gateway.config.reading import LEFT_OUT, Reading
from gateway.config.section import Holds, Items, Planned, Section
from gateway.config.sections.authorities import read_authorities
from gateway.config.sections.aws import AwsSection, read_aws
from gateway.config.sections.capabilities import CapabilitiesSection, read_capabilities
from gateway.config.sections.circuit_breaker import CircuitBreakerSection, read_circuit_breaker
from gateway.config.sections.cost_rules import CostRuleSection, read_cost_rules
from gateway.config.sections.key_pools import read_key_pool
from gateway.config.sections.key_sources import key_sources
from gateway.config.sections.options import read_options
from gateway.config.sections.resilience import TimeoutsSection, read_timeouts
from gateway.config.sections.service_accounts import GoogleSection, can_sign
from gateway.contract.errors import PluginFailed

DOCUMENTED_FLAGS: Final = (
    "openai_chat",
    "openai_responses",
    "anthropic_messages",
    "gemini_generate_content",
    "google_generate_content",
    "google_raw_predict",
    "bedrock_model_invoke",
    "bedrock_converse",
    "experimental_gemini_cli_vertex_compat",
)
"""Compatibility flags in Aperture's documentation. This gateway may have no plugin for some of them."""


DEFAULT_FLAG: Final = "openai_chat"
DEFAULT_MODE: Final[AuthMode] = "override"


class ProviderSection(Section):
    """A provider of models: its base URL, its key, its models, and the APIs that it speaks."""

    moved: ClassVar[Mapping[str, str]] = {
        "anthropic_betas": 'has no effect here any more; write "options": {FLAG: {"allow_betas": [...], '
        '"drop_betas": [...]}} for each flag in use of anthropic_messages, bedrock_converse and bedrock_model_invoke; '
        '"envelope" is an option of anthropic_messages'
    }

    baseurl: BaseUrl = Field(
        "", description='The provider\'s address: "https://bedrock-runtime.us-east-1.amazonaws.com".'
    )
    models: ModelNames = Field(
        (),
        description="The models that may be called, by the provider's names. With "
        '"discover", the provider is asked for them at the start, every hour and after a reload: '
        '["us.amazon.nova-lite-v1:0"].',
    )
    apikey: str = Field(
        "",
        description='The key: a literal, "env:NAME", "file:PATH", "exec:PROGRAM ARGUMENTS" or "keyfile::PATH", such as '
        '"file:bedrock.key". A program prints the key, and is in the folder `helpers` beside the configuration. A key '
        "file is that of a Google service account, for Vertex.",
    )
    apikeys: dict[str, str] = Field(
        default_factory=dict,
        description="Several keys in place of `apikey`, each by a name for records and metrics: "
        '{"team-a": "file:team-a.key", "team-b": "env:TEAM_B_KEY"}. A call uses one of them, and another if the '
        "provider throttles or refuses it.",
    )
    authorization: Authorization = Field(
        "bearer",
        description='How the key is sent: "bearer" is "Authorization: Bearer KEY". With "sigv4", each request is '
        "signed by AWS credentials, and there is no key.",
    )
    auth_mode: Literal["", AuthMode] = Field(
        "",
        description='The credential that is sent to the provider: the configured one ("override", or ""), the '
        'client\'s own, or the configured one if the client sends none ("passthrough"), or no credential ("none").',
    )
    cost_basis: str | None = Field(None, description='The price list by which costs are computed: "bedrock-us".')
    base_models: dict[str, ModelId] = Field(
        default_factory=dict,
        description='The id of the model behind a name that does not contain the id, such as an ARN: {"arn:...": '
        '"amazon.nova-lite-v1:0"}.',
    )
    compatibility: dict[str, bool] | None = Field(
        None, description='The API formats (flags) that the provider supports: {"bedrock_converse": true}.'
    )
    capabilities: Annotated[dict[str, Any], Holds(CapabilitiesSection, "map")] = Field(
        default_factory=dict,
        description="Corrections of what the gateway knows about the models, by name or pattern; a later entry wins: "
        '{"*claude-opus-4*": {"prefill": false}}.',
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the enabled flags, by flag: "
        '{"bedrock_converse": {"drop_betas": ["interleaved-thinking-*"]}}.',
    )
    name: str = Field("", description='A name for people: "Amazon Bedrock, Ohio".')
    description: str = Field("", description='A sentence for people: "the team\'s account".')
    disabled: bool = Field(False, description="Whether the provider is listed but never called: true or false.")
    preference: int = Field(
        0,
        description="The rank among providers that have the same model, of which the highest number is used: 10. If it "
        "fails, the next one is used (`resilience.failover`).",
    )
    add_headers: Headers = Field(
        (), description='Headers that are added to every request to the provider: ["X-Team: research"].'
    )
    ca_file: FilePath = Field(
        "",
        description="A file in PEM format with the certificate authorities that may sign the provider's certificate, "
        'in place of the system\'s: "company-ca.pem".',
    )
    weight: int = Field(
        1,
        ge=1,
        le=1000,
        description='The share of sessions where "weighted" is the strategy, such as 3: three times as many as with 1.',
    )
    calls_in_flight: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Maximum number of calls in flight at this provider, such as 100. A further call is refused with "
        "503 before it is translated. By default there is no limit.",
    )
    on_loss: Literal["report", "refuse"] = Field(
        "report",
        description="What happens to a call whose request cannot be translated completely: "
        '"report" the loss, or "refuse" the call.',
    )
    auto_cache: AutoCaching = Field(
        False,
        description="Whether the gateway asks for prompt caching on behalf of clients whose API cannot (Chat, "
        'Responses, Gemini): true, or "all" for every client that sets no cache marks, even if its requests are '
        "otherwise passed on unchanged. A session is cached from its second call at a model on. Writing costs 1.25 "
        "times the price of input and reading 0.1 times, so it pays from the first reading on.",
    )
    auto_cache_ttl: CacheLifetime = Field(
        "5m",
        description='How long an entry that `auto_cache` asks for lives after its last use: "5m" or "1h". For "1h", '
        "writing costs twice the price of input, so it pays from the second reading on.",
    )
    advertise: Advertise = Field(
        ("native",),
        description='The flags that `/api/providers` shows to launchers: the provider\'s own ("native"), all by which '
        'clients can reach the provider ("reachable"), or the flags of a list: ["openai_responses"].',
    )
    model_cost_map: Annotated[Items, Holds(CostRuleSection, "list")] = Field(
        (),
        description="Rules by which models have the prices of other models: "
        '[{"match": "m-*", "as": "n", "adjustment": 1.1}].',
    )
    upstream: Planned = Field(None, description="Another gateway on the way, as the hosted product has it.")
    aws: Annotated[dict[str, Any] | None, Holds(AwsSection)] = Field(
        None,
        description='The AWS credentials: {"profile": "bedrock"}. Without "authorization": "sigv4", they make '
        "short-term Bedrock API keys, which are sent in place of `apikey`.",
    )
    google: Annotated[dict[str, Any] | None, Holds(GoogleSection)] = Field(
        None, description='Settings for tokens by "keyfile::PATH": {"scopes": [...]}.'
    )
    request_metadata: RequestMetadata = Field(
        default_factory=dict,
        description="Metadata that Bedrock writes into its logs of invocations (Converse and InvokeModel): "
        '{"user": "<user>"}.',
    )
    circuit_breaker: Annotated[dict[str, Any], Holds(CircuitBreakerSection)] = Field(
        default_factory=dict,
        description="When the provider's models rest, where this differs from `resilience.circuit_breaker`: "
        '{"enabled": false}.',
    )
    timeouts: Annotated[dict[str, Any], Holds(TimeoutsSection)] = Field(
        default_factory=dict,
        description='The provider\'s own timeouts in seconds, in place of those in "resilience": {"head_seconds": 30}.',
    )


def enabled_flags(compatibility: Mapping[str, bool] | None, known: Collection[str]) -> tuple[str, ...]:
    """Return the enabled compatibility flags that are in `known`.

    If `compatibility` enables no flag and does not set `openai_chat` to false, `openai_chat` is enabled. Aperture's
    documents disagree about this default, and the rule fits all of them.
    """
    block = compatibility or {}
    on = [flag for flag, value in block.items() if value]
    if not on and DEFAULT_FLAG not in block:
        on = [DEFAULT_FLAG]
    return tuple(flag for flag in on if flag in known)


def read_providers(raw: Mapping[str, Any], resilience: Resilience, reading: Reading) -> Mapping[str, Provider]:
    """Return the providers that have no fault. The keys are their names in the document.

    `resilience` has the settings for providers without settings of their own.
    """
    providers = {id_: _provider(id_, value, resilience, reading) for id_, value in raw.items()}
    return MappingProxyType({id_: provider for id_, provider in providers.items() if provider})


def _provider(id_: str, raw: Any, resilience: Resilience, reading: Reading) -> Provider | None:
    path: Path = ("providers", id_)
    if not id_.strip() or not id_.isprintable() or set("/* ") & set(id_):
        reading.report.error(path, 'a provider\'s key is one word without "/" and "*", such as "bedrock-us"')
    apikey = reading.secret(raw.get("apikey") if isinstance(raw, dict) else None, (*path, "apikey"))
    section = reading.section(ProviderSection, raw, path)
    if section is None:
        return None
    _check_flags(section.compatibility or {}, (*path, "compatibility"), reading)
    _check_advertised(section.advertise, (*path, "advertise"), reading)
    discovers = isinstance(raw, dict) and raw.get("models") == DISCOVER
    if not discovers:
        _check_base_models(section, (*path, "base_models"), reading)
    models = None if discovers else {model: section.base_models.get(model, model) for model in section.models}
    capabilities = read_capabilities(section.capabilities, models, (*path, "capabilities"), reading)
    rules = read_cost_rules(section.model_cost_map, (*path, "model_cost_map"), reading)
    flags, lists = enabled_flags(section.compatibility, reading.plugins.flags), reading.plugins.price_lists
    _check_base_url(section.baseurl, flags, (*path, "baseurl"), reading)
    authorities = _authorities(section, (*path, "ca_file"), reading)
    source_of = key_sources(raw, section.authorization, authorities, path, reading)
    host = urlsplit(section.baseurl).hostname or ""
    if discovers:
        _check_search(host, flags, (*path, "models"), reading)
    return Provider(
        id=id_,
        baseurl=section.baseurl,
        host=host,
        models=tuple(dict.fromkeys(section.models)),
        discovers=discovers,
        apikey=apikey,
        apikeys=read_key_pool(section.apikeys, raw, section.authorization, source_of, (*path, "apikeys"), reading),
        authorization=section.authorization,
        issuer=read_aws(raw, section.authorization, host, path, reading)
        or source_of(section.apikey, (*path, "apikey")),
        auth_mode=section.auth_mode or DEFAULT_MODE,
        cost_basis=section.cost_basis or None,
        model_cost_map=rules,
        base_models=MappingProxyType(section.base_models),
        flags=flags,
        price_lists=tuple(dict.fromkeys(lists[flag] for flag in flags if flag in lists)),
        capabilities=capabilities,
        options=read_options(section.options, flags, (*path, "options"), reading),
        name=section.name,
        description=section.description,
        disabled=section.disabled or not section.baseurl or (_has_key_file(section) and not can_sign()),
        preference=section.preference,
        add_headers=section.add_headers,
        request_metadata=tuple(section.request_metadata.items()),
        authorities=authorities,
        calls_in_flight=section.calls_in_flight,
        weight=section.weight,
        timeouts=read_timeouts(raw, path, resilience.timeouts, reading),
        on_loss=section.on_loss,
        auto_cache=_auto_cache(section, flags, (*path, "auto_cache"), reading),
        auto_cache_ttl=section.auto_cache_ttl,
        advertise=section.advertise,
        circuit_breaker=read_circuit_breaker(raw, (*path, "circuit_breaker"), resilience.circuit_breaker, reading),
    )


def _has_key_file(section: ProviderSection) -> bool:
    return any(key.startswith(KEYFILE) for key in (section.apikey, *section.apikeys.values()))


def _authorities(section: ProviderSection, path: Path, reading: Reading) -> str:
    if section.ca_file and section.baseurl.startswith("http:"):
        reading.report.warn(path, 'has no effect with an http:// address in "baseurl"')
    return read_authorities(section.ca_file, path, reading)


def _check_flags(compatibility: Mapping[str, bool], path: Path, reading: Reading) -> None:
    """Report an error for each enabled compatibility flag whose plugin is faulty. Warn of enabled flags that have no
    effect, and of unknown flags.
    """
    known = ", ".join(sorted(reading.plugins.flags))
    for flag, value in compatibility.items():
        documented = flag in DOCUMENTED_FLAGS
        if flag in reading.plugins.left_out:
            if value:
                reading.report.warn((*path, flag), LEFT_OUT)
        elif flag in reading.plugins.unusable:
            if value:
                reading.report.error((*path, flag), reading.unusable(flag))
        elif flag not in reading.plugins.flags and (value or not documented):
            fault = "not supported yet" if documented else "unknown flag"
            message = f"{fault}; it has no effect; there are {known}{reading.report.hint(flag, reading.plugins.flags)}"
            reading.report.warn((*path, flag), message)


def _check_base_url(url: str, flags: Sequence[str], path: Path, reading: Reading) -> None:
    """Let the plugins of the enabled compatibility flags check a base URL, and warn of the faults that they find.

    Equal faults are reported once.
    """
    checks = reading.plugins.base_url_faults
    try:
        faults = [checks[flag](url) for flag in flags if url and flag in checks]
    except PluginFailed as failed:
        faults = [f"plugin {failed.plugin} failed in {failed.hook}: {failed.cause}"]
    for fault in dict.fromkeys(filter(None, faults)):
        reading.report.warn(path, fault)


def _check_search(host: str, flags: Sequence[str], path: Path, reading: Reading) -> None:
    """Warn if the enabled compatibility flags have no way to request a list of models from this host.

    Their plugins know the hosts that have such lists. No request is sent. A plugin that fails causes a warning too.
    """
    searches = [reading.plugins.searches[flag] for flag in flags if flag in reading.plugins.searches]
    try:
        if searches and all(search(host) is None for search in searches):
            reading.report.warn(path, "no enabled flag has a list of models; name the models")
    except PluginFailed as failed:
        fault = f"plugin {failed.plugin} failed in {failed.hook}: {failed.cause}"
        reading.report.warn(path, fault)


def _auto_cache(section: ProviderSection, flags: Sequence[str], path: Path, reading: Reading) -> AutoCaching:
    """Return the value of `auto_cache`: to which requests the gateway adds cache marks, which ask for prompt caching.

    If no enabled compatibility flag (API format) has cache marks, warn that the key has no effect, and return False.
    """
    marking = sorted(reading.plugins.cache_marks)
    if section.auto_cache and marking and not set(flags) & set(marking):
        reading.report.warn(path, f"has no effect: cache marks are for {', '.join(marking)}")
        return False
    return section.auto_cache


def _check_advertised(flags: Sequence[str], path: Path, reading: Reading) -> None:
    """Warn of entries of the key `advertise` that are neither a known compatibility flag nor a word of `ADVERTISE`.

    `flags` are the entries.
    """
    for index, flag in enumerate(flags):
        if flag not in reading.plugins.flags and flag not in ADVERTISE:
            hint = reading.report.hint(flag, reading.plugins.flags)
            reading.report.warn((*path, index), f"unknown flag; it has no effect{hint}")


def _check_base_models(section: ProviderSection, path: Path, reading: Reading) -> None:
    models = frozenset(section.models)
    for name in section.base_models:
        if name not in models:
            hint = reading.report.hint(name, section.models)
            reading.report.warn((*path, name), f'is not among the provider\'s "models"; it has no effect{hint}')
