"""The document that people write, section by section, as pydantic models.

One model is one JSON object; a field is a key that does something here. `not_built` are keys of the hosted product (and
our own plans) that are known and have no effect yet: they warn and never stop a start. What a section is turned into
is in `load.py`; where a fault stands is found by `check.py`. Nothing here reads a file or the environment.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.config.listen import needs_mode, parse_listen
from gateway.config.model import Authorization, Limits, Role, Timeouts

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]+")
_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "trailer"})
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


def _baseurl(value: str) -> str:
    """Credentials in a URL end up in logs, and a query would swallow the path that is joined on."""
    if not value:
        return value
    example = 'such as "https://bedrock-runtime.us-east-1.amazonaws.com"'
    try:
        parts = urlsplit(value)
        port_is_wrong = parts.port == 0
    except ValueError:
        raise ValueError(f"is no URL; write an absolute one, {example}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port_is_wrong or not _HEADER_VALUE.match(value):
        raise ValueError(f"must be an absolute http or https URL, {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError('must not hold a user or password; the key goes into "apikey"')
    if parts.query or parts.fragment or not _printable(value):
        raise ValueError(f'must hold no "?", "#", space or control character; write {example}')
    return value


def _printable(value: str) -> bool:
    return all("!" <= letter <= "~" for letter in value)


def _header(value: Any) -> tuple[str, str]:
    """The entry is not shown: its value may be a key."""
    name, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    name, rest = name.strip(), rest.strip()
    if not colon or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(rest):
        raise ValueError('must be in "Header-Name: value" format')
    if name.lower() in _FRAMING:
        raise ValueError(f'"{name}" belongs to the connection and is set by the gateway; leave it out')
    return name, rest


def _one_or_many(value: Any) -> tuple[str, ...]:
    """The documents say one string; configurations with a list are around, and mean the same."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise ValueError('must be a pattern such as "bedrock/**", or a list of them')
    return tuple(values)


def _host(value: str) -> str:
    name = value.lower().removesuffix(".")
    if not _HOST.fullmatch(name):
        raise ValueError(f'{json.dumps(value[:80])} is no host name; write it without scheme and port, such as "ai"')
    return name


def _sqlite(value: str | None) -> str | None:
    path = None if value is None else value.removeprefix("sqlite:")
    if path is not None and not (path.strip() and path.isprintable()):
        raise ValueError('"sqlite:" is followed by a path, such as "sqlite:/var/lib/irisgate/irisgate.db"')
    if value is not None and not value.startswith("sqlite:"):
        raise ValueError('must be "sqlite:PATH"; no other store is built yet')
    return value


def _named(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _null_is_empty(value: Any) -> Any:
    """The hosted product's own listing writes null for a provider without models."""
    return [] if value is None else value


Name = Annotated[str, AfterValidator(_named)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]
Header = Annotated[tuple[str, str], BeforeValidator(_header)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Bytes = Annotated[int, Field(ge=1024)]


class Section(BaseModel):
    """One JSON object. Unknown keys are not refused here but told by `check.py`, as warnings."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", hide_input_in_errors=True)
    not_built: ClassVar[frozenset[str]] = frozenset()


class ProviderSection(Section):
    not_built = frozenset({"auth_mode", "model_cost_map", "upstream", "aws", "timeouts", "base_models"})

    baseurl: Annotated[str, AfterValidator(_baseurl)] = ""
    models: Annotated[Names, BeforeValidator(_null_is_empty)] = ()
    apikey: str = ""
    authorization: Authorization = "bearer"
    cost_basis: str | None = None
    compatibility: dict[str, bool] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    name: str = ""
    description: str = ""
    disabled: bool = False
    preference: int = 0
    add_headers: Annotated[tuple[Header, ...], Field(strict=False)] = ()
    on_loss: Literal["report", "refuse"] = "report"


class CapabilitySection(Section):
    not_built = frozenset({
        "quotas", "send_hooks", "add_headers", "connectors", "mcp_tools", "mcp_resources", "mcp_templates", "skills",
        "filterable_headers", "direct_paths", "enable_chat_ui", "set_cors", "cors_paths",
        "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
    })  # fmt: skip

    role: Role | None = None
    models: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    read_metrics: bool = False
    read_pricing: bool = False


class GrantSection(Section):
    src: Annotated[tuple[str, ...], Field(strict=False, examples=['"src": ["*"]'])]
    app: dict[str, list[Any]] = Field(examples=['"app": {"tailscale.com/cap/aperture": [{"role": "user"}]}'])


class ListenerSection(Section):
    """`identity` has no default of its own: it follows from the address, or must be said."""

    not_built = frozenset({"tls", "tailscaled"})

    listen: str = Field(examples=['"listen": "127.0.0.1:8080"'])
    identity: Literal["loopback", "static"] | None = None
    login: Annotated[str, AfterValidator(_named)] | None = None
    groups: Names = ()
    tags: Names = ()

    @model_validator(mode="after")
    def _agrees(self) -> ListenerSection:
        address = parse_listen(self.listen)
        mode = self.identity or ("loopback" if address.loopback else None)
        if mode is None:
            raise ValueError(needs_mode(self.listen))
        if mode == "loopback" and not address.loopback and not address.unix:
            raise ValueError(needs_mode(self.listen))
        if mode == "static" and not self.login and not self.tags:
            raise ValueError('"identity": "static" needs a "login" (or "tags"), the caller that everyone there is')
        if mode == "loopback" and (self.login or self.groups or self.tags):
            raise ValueError('"login", "groups" and "tags" need "identity": "static"; the login is (loopback) without')
        if any(not tag.startswith("tag:") for tag in self.tags):
            raise ValueError('each of "tags" starts with "tag:", as in "tag:ci"')
        return self


class LimitsSection(Section):
    body_bytes: Bytes = Limits().body_bytes
    header_bytes: Bytes = Limits().header_bytes


class ServerSection(Section):
    listeners: Annotated[tuple[Any, ...], Field(strict=False, min_length=1)] | None = None
    hosts: Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], Field(strict=False)] = ()
    limits: dict[str, Any] = Field(default_factory=dict)
    drain_seconds: Annotated[float, Field(ge=0, le=86400)] = 30


class StorageSection(Section):
    not_built = frozenset({"retention"})

    url: Annotated[str | None, AfterValidator(_sqlite)] = None


class TimeoutsSection(Section):
    connect_seconds: Seconds = Timeouts().connect_seconds
    read_seconds: Seconds = Timeouts().read_seconds


class ResilienceSection(Section):
    not_built = frozenset({"retries", "failover", "circuit_breaker"})

    timeouts: dict[str, Any] = Field(default_factory=dict)


class TopSection(Section):
    not_built = frozenset({
        "temp_grants", "quotas", "hooks", "exporters", "auto_cost_basis", "database", "mcp", "connectors", "flags",
        "model_aliases", "chat_models",
    })  # fmt: skip

    providers: dict[str, Any] = Field(default_factory=dict)
    grants: Annotated[tuple[Any, ...], Field(strict=False)] = ()
    server: dict[str, Any] = Field(default_factory=dict)
    storage: dict[str, Any] = Field(default_factory=dict)
    resilience: dict[str, Any] = Field(default_factory=dict)
