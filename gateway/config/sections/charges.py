"""The keys `quotas` and `rate_limits` of a grant's capability, which limit the calls that the capability allows.

Quotas are defined in the section `quotas` (`quotas.py`). Aperture has no key `rate_limits`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from gateway.config.check import check
from gateway.config.document.hujson import Path
from gateway.config.fields import CountRate, Names
from gateway.config.findings import Report
from gateway.config.section import Section
from gateway.config.sections.quotas import SECONDS
from gateway.money.quotas.definitions import Chain, RateLimit, merged_chains


class BucketSection(Section):
    """A chain of quotas. Calls are charged to the quota `bucket`. The quotas in `overdraft` pay what `bucket` cannot
    pay.
    """

    bucket: str = Field(description='The name of a quota: "daily:<user>".', examples=['"bucket": "daily:<user>"'])
    overdraft: Names = Field(
        (),
        description='Quotas that pay what this quota cannot cover, in this order: ["team", "reserve"].',
    )


class RateLimitSection(Section):
    """A limit on the requests or tokens that a caller may use in a period."""

    requests: CountRate | None = Field(None, description='Maximum number of requests in a period: "60/min".')
    tokens: CountRate | None = Field(
        None, description='Maximum number of input and output tokens in a period: "200000/min".'
    )
    per: Literal["user", "user_model"] | None = Field(
        None,
        description='What has a limit of its own: each caller ("user"), or each model of each caller ("user_model").',
    )

    @model_validator(mode="after")
    def _limits_one_thing(self) -> RateLimitSection:
        if (self.requests is None) == (self.tokens is None):
            raise ValueError('needs either "requests" or "tokens", such as {"requests": "60/min"}')
        return self


class Charges(NamedTuple):
    """The quotas and rate limits of the calls that a capability (one object of a grant) allows."""

    quotas: tuple[Chain, ...]
    rate_limits: tuple[RateLimit, ...]


def read_charges(
    quotas: Sequence[Any], rate_limits: Sequence[Any], path: Path, report: Report, *, by_model: bool
) -> Charges | None:
    """Return the quotas and limits of the capability at `path`. If any has a fault, report all faults and return None.

    `by_model` is the default for limits without the key `per`: if true, such a limit counts each model separately.
    """
    buckets = [check(BucketSection, raw, (*path, "quotas", index), report) for index, raw in enumerate(quotas)]
    limits = [
        check(RateLimitSection, raw, (*path, "rate_limits", index), report) for index, raw in enumerate(rate_limits)
    ]
    if None in buckets or None in limits:
        return None
    chains = merged_chains((bucket.bucket, *bucket.overdraft) for bucket in buckets if bucket)
    return Charges(chains, tuple(_rate_limit(limit, by_model=by_model) for limit in limits if limit))


def check_quotas(quotas: Sequence[Any], path: Path, defined: Collection[str], report: Report) -> None:
    """Warn if the capability at `path` names a quota that is not defined.

    Also warn if a chain (a quota and the quotas in its `overdraft`) names a quota twice.
    """
    for index, raw in enumerate(quotas):
        place = (*path, "quotas", index)
        name, more = (raw.get("bucket"), raw.get("overdraft")) if isinstance(raw, dict) else (None, None)
        links: list[tuple[Path, Any]] = [((*place, "bucket"), name)]
        links += [((*place, "overdraft", at), one) for at, one in enumerate(more)] if isinstance(more, list) else []
        seen: set[str] = set()
        for where, link in links:
            if not isinstance(link, str):
                continue
            if link not in defined:
                report.warn(where, f'quotas references undefined quota "{link}"{report.hint(link, defined)}')
            if link in seen:
                report.warn(where, f'names the quota "{link}" a second time; each quota pays once')
            seen.add(link)


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
