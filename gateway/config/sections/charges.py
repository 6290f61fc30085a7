"""The keys `quotas` and `rate_limits` of a grant's capability: what the capability's calls are charged to.

Quotas are defined in `quotas.py`. `rate_limits` is a key of this gateway and not of the hosted product.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from gateway.config.check import check
from gateway.config.document.hujson import Path
from gateway.config.fields import CountRate
from gateway.config.findings import Report
from gateway.config.section import Section
from gateway.config.sections.quotas import SECONDS
from gateway.money.quotas.definitions import RateLimit


class BucketSection(Section):
    """A quota that a capability's calls are charged to."""

    bucket: str = Field(description='The name of a quota: "daily:<user>".', examples=['"bucket": "daily:<user>"'])


class RateLimitSection(Section):
    """A limit on the requests or tokens that a caller may use in a period."""

    requests: CountRate | None = Field(None, description='Requests in a time: "60/min".')
    tokens: CountRate | None = Field(None, description='Tokens in a time, read and written: "200000/min".')
    per: Literal["user", "user_model"] | None = Field(
        None, description='What is counted apart: callers ("user"), or their models too ("user_model").'
    )

    @model_validator(mode="after")
    def _limits_one_thing(self) -> RateLimitSection:
        if (self.requests is None) == (self.tokens is None):
            raise ValueError('needs either "requests" or "tokens", such as {"requests": "60/min"}')
        return self


class Charges(NamedTuple):
    """The names of the quotas, and the rate limits, that a capability's calls are charged to."""

    quotas: tuple[str, ...]
    rate_limits: tuple[RateLimit, ...]


def read_charges(
    quotas: Sequence[Any], rate_limits: Sequence[Any], path: Path, report: Report, *, by_model: bool
) -> Charges | None:
    """Return the quotas and limits of the capability at `path`. If any has a fault, report the faults and return None.

    With `by_model`, a limit without the key `per` counts each model separately.
    """
    buckets = [check(BucketSection, raw, (*path, "quotas", index), report) for index, raw in enumerate(quotas)]
    limits = [
        check(RateLimitSection, raw, (*path, "rate_limits", index), report) for index, raw in enumerate(rate_limits)
    ]
    if None in buckets or None in limits:
        return None
    names = dict.fromkeys(bucket.bucket for bucket in buckets if bucket)
    return Charges(tuple(names), tuple(_rate_limit(limit, by_model=by_model) for limit in limits if limit))


def check_quotas(quotas: Sequence[Any], path: Path, defined: Collection[str], report: Report) -> None:
    """Warn of undefined quotas that the capability at `path` names."""
    for index, raw in enumerate(quotas):
        name = raw.get("bucket") if isinstance(raw, dict) else None
        if isinstance(name, str) and name not in defined:
            message = f'quotas references undefined quota "{name}"{report.hint(name, defined)}'
            report.warn((*path, "quotas", index, "bucket"), message)


def _rate_limit(section: RateLimitSection, *, by_model: bool) -> RateLimit:
    rate = section.requests or section.tokens or ""
    amount, unit = rate.split("/")
    return RateLimit(
        kind="requests" if section.requests else "tokens",
        amount=int(amount),
        period_seconds=SECONDS[unit],
        rate=rate,
        by_model=by_model if section.per is None else section.per == "user_model",
    )
