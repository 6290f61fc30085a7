"""Definitions of quotas and rate limits, and the names of the buckets that they make.

- Amounts are integers: nanodollars of a quota, requests or tokens of a rate limit.
- A quota's name may end with a template, `:<user>` or `:<node>`: it then has a bucket for each login or node.
- The store keeps balances of money by these names, so a name means the same bucket in every release.

The document that people write is read in `config/sections/quotas.py`; balances are in `ledger.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gateway.contract.record import NANODOLLARS
from gateway.money.quotas.ledger import SECOND, Bucket, Rule

OnExceed = Literal["reject", "notify"]

TEMPLATES: Final = ("<user>", "<node>")
"""Endings of a quota's name, after a colon, that make a bucket for each user or node."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A definition of buckets of money: one for all, or one for each user or node."""

    name: str
    """`daily:<user>`; a name without a template at its end is one bucket."""
    capacity: int
    """Most nanodollars that a bucket holds; a new bucket holds them all."""
    amount: int = 0
    """Nanodollars that flow in, evenly over the period; 0: none."""
    period_seconds: int = 1
    rate: str = ""
    """The refill as written: `$5.00/day`."""
    on_exceed: OnExceed = "reject"

    @property
    def rule(self) -> Rule:
        """The rule of each bucket of this definition."""
        return Rule(self.name, self.capacity, self.amount, self.period_seconds * SECOND, self.on_exceed == "notify")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests or tokens that a caller may use in a period. A burst of all of them at once is allowed."""

    kind: Literal["requests", "tokens"]
    amount: int
    period_seconds: int
    rate: str
    """The limit as written: `60/min`."""
    by_model: bool
    """Every model is counted apart, instead of all models of the capability together."""

    @property
    def rule(self) -> Rule:
        """The rule of each bucket of this limit."""
        name = f"{self.kind} {self.rate}"
        return Rule(name, self.amount, self.amount, self.period_seconds * SECOND, kind=self.kind)

    def bucket(self, login: str, model: str, patterns: tuple[str, ...]) -> Bucket:
        """Return the bucket of a caller for a model; `patterns` are those of the capability that sets the limit.

        No login and no rate holds a line end, so two limits share a bucket only where all of these are equal.
        """
        scope = model if self.by_model else " ".join(patterns)
        return Bucket(self.kind, "\n".join((self.rate, login, str(self.by_model), scope)))


def bucket_of(name: str, login: str, node: str) -> str:
    """Return the name of a definition's bucket for a caller. Where no node is known, the login stands for the node."""
    subjects = {"<user>": login, "<node>": node or login}
    template = template_of(name)
    return name.removesuffix(template) + subjects[template] if template else name


def template_of(name: str) -> str:
    """Return the template at the end of a definition's name; "" for a definition of one bucket."""
    return next((template for template in TEMPLATES if name.endswith(f":{template}")), "")


def usd(nanodollars: int) -> str:
    """Return a sum as people read it, rounded down to a cent: $10.00."""
    return f"${nanodollars // NANODOLLARS}.{nanodollars % NANODOLLARS * 100 // NANODOLLARS:02}"
