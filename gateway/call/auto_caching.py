"""Rules that decide whether the gateway may add cache marks to requests (`auto_cache` of a provider).

A cache mark is a field in a prompt, such as `cache_control`. It asks the provider to cache the prompt from its
beginning up to this field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.config.model import CacheLifetime, Provider
from gateway.contract.flag import Caps
from gateway.money.prices.rates import Priced

_WRITES: Final[Mapping[CacheLifetime, str]] = {"5m": "cache_write_5m", "1h": "cache_write_1h"}
"""Kinds of tokens under which the writing of a cache entry is billed, by the lifetime of the entry."""


def is_on(provider: Provider, *, has_marks: bool) -> bool:
    """Return whether `auto_cache` of the provider applies to the client's API.

    `auto_cache: true` applies only to APIs that have no cache marks, and `auto_cache: all` to every API. `has_marks` is
    true if the client's API has cache marks.
    """
    return provider.auto_cache == "all" or (provider.auto_cache is True and not has_marks)


def is_priced(price: Priced | None, lifetime: CacheLifetime) -> bool:
    """Return whether the cost of a call stays known if cache marks are added to its request.

    The cost becomes unknown if the model has a price for input, but no price for writing or reading a cache entry of
    this lifetime.
    """
    if price is None or price.unit("input") is None:
        return True
    return price.unit(_WRITES[lifetime]) is not None and price.unit("cache_read") is not None


def lifetime_at(provider: Provider, caps: Caps) -> CacheLifetime:
    """Return the lifetime of a model's cache entries: the configured one, or "5m" if the model offers no choice."""
    return provider.auto_cache_ttl if caps.cache_ttl else "5m"
