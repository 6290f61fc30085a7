"""The settings by which a provider is reached. If they change, the provider's failures before the change no longer
matter.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from hashlib import sha256

from gateway.config.document.secrets import Secret
from gateway.config.model import Provider


def way(provider: Provider) -> tuple[object, ...]:
    """Return the settings by which a provider is reached: its base URL, its credentials, and the headers to add."""
    return (
        provider.baseurl,
        provider.apikey,
        provider.apikeys,
        provider.authorization,
        provider.issuer,
        provider.add_headers,
    )


def fingerprint(provider: Provider) -> str:
    """Return a hash of the settings by which a provider is reached. Every process computes the same hash.

    The hash must be neither stored nor logged, because one of the settings is the key: whoever has the hash could find
    out a short key by trying many keys.
    """
    return sha256(repr(_plain(way(provider))).encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: object) -> object:
    """Return a value whose `repr` shows all of its parts, including the values of secrets."""
    if isinstance(value, Secret):
        return value.source, value.value
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if is_dataclass(value):
        return type(value).__name__, *(_plain(getattr(value, each.name)) for each in fields(value))
    return value
