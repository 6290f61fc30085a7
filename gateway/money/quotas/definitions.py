"""Definitions of quotas and rate limits, and the names of their buckets.

- Amounts are integers: nanodollars in a quota, requests or tokens in a rate limit.
- A quota's name may end with a template, `:<user>` or `:<node>`. The quota then has a bucket for each user or node.
- Balances of money are stored by the names of their buckets. So a name must mean the same bucket in every release.

`config/sections/quotas.py` reads quotas from the configuration. `buckets.py` has the balances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from gateway.contract.record import NANODOLLARS
from gateway.money.quotas.buckets import SECOND, Bucket, Rule
from gateway.money.quotas.windows import Window

OnExceed = Literal["reject", "notify"]
Chain = tuple[str, ...]
"""Names of quotas that are charged in order: what a quota cannot pay, the next one pays. Most chains have one quota."""

TEMPLATES: Final = ("<user>", "<node>")
"""Templates that may end a quota's name, after a colon. The quota then has a bucket for each user or node."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The definition of a quota of money, with one bucket for all callers, or one for each user or node."""

    name: str
    """Name of the definition, such as `daily:<user>`. If the name does not end with a template (`<user>` or `<node>`),
    the quota has one bucket for all callers.
    """
    capacity: int
    """Maximum number of nanodollars in a bucket. A new bucket has this number."""
    amount: int = 0
    """Nanodollars that are added to a bucket in each period, evenly over the period. 0 if the bucket does not refill in
    this way.
    """
    period_seconds: int = 1
    rate: str = ""
    """The refill as written in the configuration: `$5.00/day`."""
    on_exceed: OnExceed = "reject"
    window: Window | None = None
    """The calendar window at whose start a bucket is filled. It is None if the bucket refills over time, or never."""

    @property
    def rule(self) -> Rule:
        """The capacity and refill of every bucket of this quota."""
        period, notify = self.period_seconds * SECOND, self.on_exceed == "notify"
        return Rule(self.name, self.capacity, self.amount, period, notify, window=self.window)


class RateLimit(msgspec.Struct, frozen=True):
    """A rate limit: the number of requests or tokens that a caller may use in a period. All of them may be used at
    once.
    """

    kind: Literal["requests", "tokens"]
    amount: int
    period_seconds: int
    rate: str
    """The limit as written in the configuration: `60/min`."""
    by_model: bool
    """True if each model has its own limit. False if all models of a grant share the limit."""

    @property
    def rule(self) -> Rule:
        """The capacity and refill of every bucket of this limit."""
        name = f"{self.kind} {self.rate}"
        return Rule(name, self.amount, self.amount, self.period_seconds * SECOND, kind=self.kind)

    def bucket(self, login: str, model: str, patterns: tuple[str, ...]) -> Bucket:
        """Return the bucket in which a caller's calls of a model are limited.

        `patterns` are the model patterns of the grant with this limit. They are a part of the bucket's name, unless
        each model has its own limit. The parts are joined by line feeds, which no login and no rate contains, so that
        different parts give different names.
        """
        scope = model if self.by_model else " ".join(patterns)
        return Bucket(self.kind, "\n".join((self.rate, login, str(self.by_model), scope)))


def merged_chains(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    """Merge all chains that begin with the same quota into one chain.

    The merged chain has all their quotas, each once, in the order in which they first occur. So an additional grant
    never reduces what a caller may use.
    """
    merged: dict[str, dict[str, None]] = {}
    for chain in chains:
        merged.setdefault(chain[0], {}).update(dict.fromkeys(chain))
    return tuple(tuple(names) for names in merged.values())


def bucket_of(name: str, login: str, node: str) -> str:
    """Return the name of a caller's bucket of the quota `name`. If `node` is "" (unknown), the login replaces it."""
    subjects = {"<user>": login, "<node>": node or login}
    template = template_of(name)
    return name.removesuffix(template) + subjects[template] if template else name


def template_of(name: str) -> str:
    """Return the template at the end of a quota's name (`<user>` or `<node>`), or "" if the name has none."""
    return next((template for template in TEMPLATES if name.endswith(f":{template}")), "")


def usd(nanodollars: int) -> str:
    """Return an amount in USD for people, rounded down to a cent: `$10.00`."""
    return f"${nanodollars // NANODOLLARS}.{nanodollars % NANODOLLARS * 100 // NANODOLLARS:02}"
