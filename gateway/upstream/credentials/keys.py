"""The credential of a request to a provider: the provider's configured key, the client's own key, or no key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from gateway.config.document.secrets import Secret
from gateway.config.model import Authorization, Provider
from gateway.contract.flag import ClientRequest, Drop, Members

_SCHEMES: Final[Mapping[Authorization, Callable[[str], tuple[str, str]]]] = {
    "bearer": lambda key: ("authorization", f"Bearer {key}"),
    "x-api-key": lambda key: ("x-api-key", key),
    "x-goog-api-key": lambda key: ("x-goog-api-key", key),
}
_CLIENTS: Final = ("authorization", "x-api-key", "x-goog-api-key")
"""Headers in which clients send a key. The first two are those in the documentation of Aperture, Tailscale's AI
gateway."""
_SIGNED: Final = "AWS4-"
"""Prefix of AWS signatures in the header `authorization`. They are not passed on. A signature covers the gateway's
host name, so the provider would refuse it."""

_MEMBERS: Final = frozenset(
    {
        "api_key", "api_base", "base_url", "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
        "aws_region_name", "aws_profile_name", "aws_role_name", "aws_web_identity_token", "aws_sts_endpoint",
        "aws_bedrock_runtime_endpoint", "azure_ad_token", "custom_llm_provider", "extra_headers", "vertex_credentials",
    }
)  # fmt: skip
"""Fields of a request's body with which clients of LiteLLM choose the provider's key or URL. They are removed from all
requests.

If the provider is a LiteLLM proxy, it would use them (CVE-2024-6587). Other providers have no fields with these names.
"""


def without_own(request: ClientRequest, drop: Drop) -> ClientRequest:
    """Return the request without the fields of its body that choose the provider's key or URL (`_MEMBERS`).

    Each removed field is reported to `drop`.
    """
    if _MEMBERS.isdisjoint(request.top):
        return request
    named = [name for name in request.top if name in _MEMBERS]
    for name in named:
        drop(f"/{name}")
    return replace(request, top=Members(request.top.spliced(dict.fromkeys(named))))


def headers(provider: Provider, client: Mapping[str, str], chosen: Secret | None = None) -> dict[str, str]:
    """Return the credential headers of a request to `provider`.

    `client` are the client's headers by name in lower case. `chosen` is the key to use if the provider has several
    keys.

    With `auth_mode: "passthrough"`, the client's own credential headers are sent unchanged. The provider's configured
    key is sent only if the client has none. Source: the documentation of Aperture, Tailscale's AI gateway.
    """
    if provider.auth_mode == "none":
        return {}
    if provider.auth_mode == "passthrough":
        own = {name: client[name] for name in _CLIENTS if client.get(name) and not client[name].startswith(_SIGNED)}
        return own or _key(provider, chosen)
    return _key(provider, chosen)


def is_gateways(provider: Provider, client: Mapping[str, str]) -> bool:
    """Return whether a request to `provider` is sent without a credential of the client.

    The request then has the gateway's credential or none. `client` are the client's headers by name in lower case.
    """
    return provider.auth_mode != "passthrough" or headers(provider, client) == _key(provider)


def uses_pool(provider: Provider, client: Mapping[str, str]) -> bool:
    """Return whether a request to `provider` is sent with one of its configured keys (`apikeys`).

    `client` are the client's headers by name in lower case.
    """
    return bool(provider.apikeys) and provider.auth_mode != "none" and is_gateways(provider, client)


def _key(provider: Provider, chosen: Secret | None = None) -> dict[str, str]:
    """Return the header with the key `chosen`, or else with the provider's only or first key.

    Return {} if the key is empty, as for a local server, or if it is obtained at run time (`live.py`).
    """
    if chosen is None:
        chosen = provider.apikeys[0].secret if provider.apikeys else provider.apikey
    key = chosen.value
    return key_headers(provider, key) if key else {}


def key_headers(provider: Provider, key: str) -> dict[str, str]:
    """Return the header with a key, in the scheme that the provider demands."""
    return dict([_SCHEMES[provider.authorization](key)])
