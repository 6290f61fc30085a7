"""Types of single values: URLs, headers, sums of money, durations and others.

A check raises `ValueError`. The message says what is expected, and never shows a value that may be a secret. The files
of `sections/` choose a type for each key. Nothing here depends on a section.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.config.postgres_url import is_postgres, parse_postgres_url
from gateway.contract.http_headers import FRAMING, HEADER_NAME, SECRET_NAMED
from gateway.money.quotas.definitions import TEMPLATES

_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]+")
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_SERVICE: Final = re.compile(r"svc:[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_MONEY: Final = re.compile(r"\$[0-9]{1,9}(\.[0-9]{1,9})?")
_RATE: Final = re.compile(_MONEY.pattern + r"/(min|hour|day|week|month)")
_COUNT_RATE: Final = re.compile(r"([1-9][0-9]{0,11})/(min|hour|day|week|month)")
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_SECONDS: Final[Mapping[str, float]] = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86400,
}
_HOUR: Final = 3600
_METADATA: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}", re.ASCII)
_TEMPLATE: Final = re.compile("|".join(TEMPLATES))
_MAX_METADATA: Final = 16
_LONGEST_RETENTION: Final = 3650 * 86400

MAX_RECORDED_HEADERS: Final = 8
"""Maximum number of headers whose values are recorded with calls. For each of them, the store keeps separate sums over
calls for many values.
"""
_LONGEST_HEADER: Final = 64
"""Maximum length of the name of a recorded header. No header in use is longer."""
ALL_HEADERS: Final = "*"
"""The entry of a grant's `filterable_headers` that stands for all recorded headers."""
DISCOVER: Final = "discover"
"""The value of `models` that makes the gateway ask the provider for its models."""


def _baseurl(value: str) -> str:
    """Return the URL. Raises `ValueError` if it cannot be a base URL.

    Credentials are refused, because they would appear in logs. A query is refused, because an appended path would
    become part of the query.
    """
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
    return all("!" <= character <= "~" for character in value)


def _header(value: Any) -> tuple[str, str]:
    """Return the name and value of a header. The error message does not quote them, because they may hold a secret."""
    name, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    name, rest = name.strip(), rest.strip()
    if not colon or not HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(rest):
        raise ValueError('must be in "Header-Name: value" format')
    if name.lower() in FRAMING:
        raise ValueError(f'"{name}" belongs to the connection and is set by the gateway; leave it out')
    return name, rest


def _one_or_many(value: Any) -> tuple[str, ...]:
    """Return one pattern, or a list of patterns, as a tuple.

    Aperture's documentation shows only a single pattern, but some configurations have a list.
    """
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise ValueError('must be a pattern such as "bedrock/**", or a list of them')
    return tuple(values)


def _header_name(value: str) -> str:
    """Return the name of a header in lower case. Raises `ValueError` if it is no name."""
    if not HEADER_NAME.fullmatch(value):
        raise ValueError(f'{json.dumps(value[:80])} is no name of a header; write one such as "x-team"')
    return value.lower()


def _recorded_header(value: str) -> str:
    """Return the name of a header in lower case. Raises `ValueError` if its values must not be recorded.

    A header is never recorded if its name shows that the values may be secrets.
    """
    name = _header_name(value)
    if len(name) > _LONGEST_HEADER:
        raise ValueError(f"{json.dumps(name[:20])}... is longer than {_LONGEST_HEADER} characters")
    if secret := SECRET_NAMED.search(name):
        fault = f'its values may be secrets, because its name contains "{secret[0]}"'
        raise ValueError(f'"{name[:80]}" is never recorded: {fault}; name another header, such as "x-team"')
    return name


def _recorded_headers(value: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(value))
    if len(names) > MAX_RECORDED_HEADERS:
        raise ValueError(f"names {len(names)} headers; at most {MAX_RECORDED_HEADERS} may be recorded")
    return names


def _granted_headers(value: Any) -> tuple[str, ...]:
    """Return the header names of a grant in lower case, as a tuple. The value is one name or a list of names.

    The entry `ALL_HEADERS` stands for all headers. Raises `ValueError` if the value has another form or a name is
    invalid.
    """
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(item, str) for item in values):
        raise ValueError('must be a list of names of headers, such as ["x-team"], or "*" for all')
    return tuple(item if item == ALL_HEADERS else _header_name(item) for item in values)


def _host(value: str) -> str:
    name = value.lower().removesuffix(".")
    if not _HOST.fullmatch(name):
        raise ValueError(f'{json.dumps(value[:80])} is no host name; write it without scheme and port, such as "ai"')
    return name


def _store_url(value: str | None) -> str | None:
    if value is None or is_postgres(value):
        return value if value is None else _postgres_url(value)
    path = value.removeprefix("sqlite:")
    if not (path.strip() and path.isprintable()):
        raise ValueError('"sqlite:" is followed by a path, such as "sqlite:/var/lib/irisgate/irisgate.db"')
    if path == value:
        raise ValueError('must be "sqlite:PATH" or "postgresql://USER@HOST/DATABASE"')
    return value


def _postgres_url(value: str) -> str:
    if value:
        parse_postgres_url(value)
    return value


def _named(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _names_or_none(value: Any) -> Any:
    """Return the list of models. Return [] for null and for `DISCOVER`. Aperture writes null for a provider without
    models.

    Raises `ValueError` for any other string.
    """
    if isinstance(value, str) and value != DISCOVER:
        raise ValueError(f'must be a list of names, such as ["us.amazon.nova-lite-v1:0"], or "{DISCOVER}"')
    return [] if value is None or value == DISCOVER else value


def _socket(value: str) -> str:
    if not value.startswith("/") or not value.isprintable():
        raise ValueError('must be the absolute path of a socket, such as "/var/run/tailscale/tailscaled.sock"')
    return value


def _service(value: str) -> str:
    if not _SERVICE.fullmatch(value):
        raise ValueError('must be the name of a Tailscale Service, such as "svc:ai"')
    return value


def _ip(value: str) -> str:
    """Return an IP address in canonical form, because it is compared as text with the addresses of peers."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError('must be an IP address without a port, such as "10.0.0.7"') from None


def _file_path(value: str) -> str:
    if value and not (value.strip() and value.isprintable()):
        raise ValueError('must be the path of a file, such as "prices.hujson"')
    return value


def _request_metadata(value: dict[str, str]) -> dict[str, str]:
    """Return the metadata. Raises `ValueError` if Bedrock would refuse it (botocore's service model,
    `RequestMetadata`).
    """
    if len(value) > _MAX_METADATA:
        raise ValueError(f"has {len(value)} entries; Bedrock takes {_MAX_METADATA} at most")
    for key, text in value.items():
        if not key or not _METADATA.fullmatch(key):
            raise ValueError(f'{json.dumps(key[:80])} is no key of metadata; write one such as "user"')
        if not _METADATA.fullmatch(_TEMPLATE.sub("", text)):
            raise ValueError(f'the value of {json.dumps(key)} cannot be sent; write one such as "research" or "<user>"')
    return value


def _model_id(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty; write the id of the model behind the name")
    return value


def _target(value: str) -> str:
    provider, _, model = value.partition("/")
    if not provider or not model:
        raise ValueError('must be in "provider/model" format, such as "bedrock/us.amazon.nova-lite-v1:0"')
    return value


def _money(value: str) -> str:
    if not _MONEY.fullmatch(value):
        raise ValueError('must be a sum of dollars, such as "$10.00"')
    return value


def _rate(value: str) -> str:
    if not _RATE.fullmatch(value):
        raise ValueError('must be dollars per min, hour, day, week or month, such as "$5.00/day"')
    return value


def _count_rate(value: str) -> str:
    if not _COUNT_RATE.fullmatch(value):
        raise ValueError('must be a number per min, hour, day, week or month, such as "60/min"')
    return value


def _timeout(value: str) -> str:
    if value != "0" and (_seconds(value) is None or "d" in value):
        raise ValueError('must be a duration such as "5s", "1m30s" or "500ms"; "0" is none')
    return value


def _retention(value: str) -> str:
    if value in {"", "0"}:
        return value
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError('must be a duration such as "30d" or "720h"; "" keeps for ever, "0" keeps nothing')
    if not _HOUR <= seconds <= _LONGEST_RETENTION:
        raise ValueError('must be between "1h" and "3650d"; "" keeps for ever, "0" keeps nothing')
    return value


def retention_seconds(value: str) -> float | None:
    """Return the number of seconds for which records are kept: None without a limit, and 0 if none are kept.

    `value` must be a valid duration or "".
    """
    return None if value == "" else _seconds(value) or 0.0


def _seconds(text: str) -> float | None:
    """Return the seconds of a duration such as `1h30m` (Go's syntax) or `7d`. Return None for any other text."""
    if not text or _DURATION_PART.sub("", text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


_PATTERN: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_MODEL_NAMES: Final = {
    "anyOf": [{"type": "array", "items": {"type": "string"}}, {"enum": [DISCOVER]}, {"type": "null"}]
}

BaseUrl = Annotated[str, AfterValidator(_baseurl)]
ADVERTISE: Final = ("native", "reachable")
_ADVERTISE: Final = {"anyOf": [{"enum": list(ADVERTISE)}, {"type": "array", "items": {"type": "string"}}]}


def _advertised(value: Any) -> tuple[str, ...]:
    """Return a word of `ADVERTISE`, or a list of compatibility flags (API formats), as a tuple.

    Raises `ValueError` for anything else.
    """
    if isinstance(value, str) and value in ADVERTISE:
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(flag, str) for flag in value):
        return tuple(value)
    raise ValueError('must be "native", "reachable" or a list of flags, such as ["openai_responses"]')


Name = Annotated[str, AfterValidator(_named)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]
ModelNames = Annotated[Names, BeforeValidator(_names_or_none), WithJsonSchema(_MODEL_NAMES)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), WithJsonSchema(_PATTERN)]
Header = Annotated[tuple[str, str], BeforeValidator(_header), WithJsonSchema({"type": "string"})]
Headers = Annotated[tuple[Header, ...], Field(strict=False)]
RecordedHeaders = Annotated[
    tuple[Annotated[str, AfterValidator(_recorded_header)], ...],
    Field(strict=False),
    AfterValidator(_recorded_headers),
]
GrantedHeaders = Annotated[tuple[str, ...], BeforeValidator(_granted_headers), WithJsonSchema(_PATTERN)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], Field(strict=False)]
Advertise = Annotated[tuple[str, ...], BeforeValidator(_advertised), WithJsonSchema(_ADVERTISE)]
StoreUrl = Annotated[str | None, AfterValidator(_store_url)]
PostgresUrl = Annotated[str, AfterValidator(_postgres_url)]
SocketPath = Annotated[str, AfterValidator(_socket)]
Service = Annotated[str, AfterValidator(_service)]
Addresses = Annotated[tuple[Annotated[str, AfterValidator(_ip)], ...], Field(strict=False)]
FilePath = Annotated[str, AfterValidator(_file_path)]
RequestMetadata = Annotated[dict[str, str], AfterValidator(_request_metadata)]
ModelId = Annotated[str, AfterValidator(_model_id)]
Target = Annotated[str, AfterValidator(_target)]
Targets = Annotated[tuple[Target, ...], Field(strict=False, min_length=1)]
Money = Annotated[str, AfterValidator(_money)]
Rate = Annotated[str, AfterValidator(_rate)]
CountRate = Annotated[str, AfterValidator(_count_rate)]
Timeout = Annotated[str, AfterValidator(_timeout)]
Retention = Annotated[str, AfterValidator(_retention)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Bytes = Annotated[int, Field(ge=1024)]
