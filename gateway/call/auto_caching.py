"""Rules that decide whether the gateway may place cache marks into requests (`auto_cache` of a provider)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.config.model import CacheLifetime, Provider
from gateway.contract.flag import Caps
from gateway.money.prices.rates import Priced

_WRITES: Final[Mapping[CacheLifetime, str]] = {"5m": "cache_write_5m", "1h": "cache_write_1h"}
"""The kinds of tokens that are written to a cache, by the lifetime of the entry."""


def is_on(provider: Provider, *, has_marks: bool) -> bool:
    """Return whether the provider is configured with `auto_cache` for clients of an API.

    `has_marks` is true if the clients of the API can set cache marks themselves.
    """
    return provider.auto_cache == "all" or (provider.auto_cache is True and not has_marks)


def is_priced(price: Priced | None, lifetime: CacheLifetime) -> bool:
    """Return whether cache entries of this lifetime leave the cost of a call as known as it is without them."""
    if price is None or price.unit("input") is None:
        return True
    return price.unit(_WRITES[lifetime]) is not None and price.unit("cache_read") is not None


def lifetime_at(provider: Provider, caps: Caps) -> CacheLifetime:
    """Return the lifetime of cache entries of a model: the configured one, or the usual one if it has no other."""
    return provider.auto_cache_ttl if caps.cache_ttl else "5m"
