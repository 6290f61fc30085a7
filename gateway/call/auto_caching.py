"""Rules that decide whether the gateway may place cache marks into requests (`auto_cache` of a provider)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.config.model import CacheLifetime, Provider
from gateway.contract.flag import Caps
from gateway.money.prices.rates import Priced

_WRITES: Final[Mapping[CacheLifetime, str]] = {"5m": "cache_write_5m", "1h": "cache_write_1h"}
"""The kind of billed tokens for writing a cache entry, by the lifetime of the entry."""


def is_on(provider: Provider, *, has_marks: bool) -> bool:
    """Return whether the provider's `auto_cache` applies to the client's API.

    `auto_cache: true` applies only to APIs without cache marks, and `auto_cache: all` to every API. `has_marks` is true
    if the API has cache marks.
    """
    return provider.auto_cache == "all" or (provider.auto_cache is True and not has_marks)


def is_priced(price: Priced | None, lifetime: CacheLifetime) -> bool:
    """Return False if the cost of a call is known without cache marks, but would be unknown with them.

    This is so if input has a price, but writing or reading cache entries of this lifetime has none.
    """
    if price is None or price.unit("input") is None:
        return True
    return price.unit(_WRITES[lifetime]) is not None and price.unit("cache_read") is not None


def lifetime_at(provider: Provider, caps: Caps) -> CacheLifetime:
    """Return the lifetime of a model's cache entries: the configured one, or "5m" if the model offers no choice."""
    return provider.auto_cache_ttl if caps.cache_ttl else "5m"
