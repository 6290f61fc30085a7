"""The credential of a request to a provider: the provider's own by its configured scheme, the client's, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from gateway.config.model import Authorization, Provider
from gateway.contract.flag import ClientRequest, Drop, Members

_SCHEMES: Final[Mapping[Authorization, Callable[[str], tuple[str, str]]]] = {
    "bearer": lambda key: ("authorization", f"Bearer {key}"),
    "x-api-key": lambda key: ("x-api-key", key),
    "x-goog-api-key": lambda key: ("x-goog-api-key", key),
}
_CLIENTS: Final = ("authorization", "x-api-key", "x-goog-api-key")
"""Headers in which clients send a key; the last one is not in the hosted product's text."""
_SIGNED: Final = "AWS4-"
"""Prefix of a signature, which is valid only for the host name by which the gateway was called."""

_MEMBERS: Final = frozenset(
    {
        "api_key", "api_base", "base_url", "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
        "aws_region_name", "aws_profile_name", "aws_role_name", "aws_web_identity_token", "aws_sts_endpoint",
        "aws_bedrock_runtime_endpoint", "azure_ad_token", "custom_llm_provider", "extra_headers", "vertex_credentials",
    }
)  # fmt: skip
"""Members in which clients of LiteLLM name a key or an address.

No provider's own API has them, and a provider that is itself such a proxy would obey them (CVE-2024-6587)."""


def without_own(request: ClientRequest, drop: Drop) -> ClientRequest:
    """Return the request without a client's keys and addresses in its body, each reported as dropped."""
    if _MEMBERS.isdisjoint(request.top):
        return request
    named = [name for name in request.top if name in _MEMBERS]
    for name in named:
        drop(f"/{name}")
    return replace(request, top=Members(request.top.spliced(dict.fromkeys(named))))


def headers(provider: Provider, client: Mapping[str, str]) -> dict[str, str]:
    """Return the credential headers of a request to `provider`; `client` are the client's headers in lower case.

    With `auth_mode: "passthrough"` the client's own headers are sent unchanged, and the provider's key only for
    clients without a key (aperture.md 1.3).
    """
    if provider.auth_mode == "none":
        return {}
    if provider.auth_mode == "passthrough":
        own = {name: client[name] for name in _CLIENTS if client.get(name) and not client[name].startswith(_SIGNED)}
        return own or _key(provider)
    return _key(provider)


def is_gateways(provider: Provider, client: Mapping[str, str]) -> bool:
    """Return whether the credential of such a request is the gateway's affair, and not the client's own."""
    return provider.auth_mode != "passthrough" or headers(provider, client) == _key(provider)


def _key(provider: Provider) -> dict[str, str]:
    """Return the header of the provider's key; no header for an empty key, as for a local server."""
    key = provider.apikey.value
    return dict([_SCHEMES[provider.authorization](key)]) if key else {}
