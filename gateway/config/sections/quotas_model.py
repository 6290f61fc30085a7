"""Sections of quotas and rate limits, as `config/schema.py` has those of everything else.

What they become, and what is said of them beside their types, is in `quotas.py`. Source of the keys: aperture.md
section 1.6; `"notify"` and rate limits are our own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gateway.config.fields import CountRate, Money, Rate
from gateway.config.model import OnExceed
from gateway.config.section import Section


class QuotaSection(Section):
    """A bucket of money that refills."""

    capacity: Money = Field(
        description='The most that the bucket holds, and what it starts with, in dollars: "$10.00".',
        examples=['"capacity": "$10.00"'],
    )
    rate: Rate | None = Field(
        None, description='What flows in, in dollars per min, hour, day, week or month (30 days): "$5.00/day".'
    )
    on_exceed: OnExceed = Field(
        "reject",
        description='What happens to calls when the bucket is empty: "reject", or "notify", which lets them through.',
    )


class BucketSection(Section):
    """A quota that a capability's calls are charged to."""

    bucket: str = Field(description='The name of a quota: "daily:<user>".', examples=['"bucket": "daily:<user>"'])


class RateLimitSection(Section):
    """How much a caller may ask for in a time."""

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
