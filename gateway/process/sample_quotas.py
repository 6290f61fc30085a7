"""Quotas of the sample month: their definitions, the quotas to which each person's calls are charged, and the balances
after the month.

The sample calls are charged one after the other, at their own times. So the page Quotas shows quotas that are full, low
and empty. A call that an empty quota would refuse has the record of a refused call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from gateway.contract.errors import QUOTA
from gateway.contract.flag import Usage
from gateway.contract.record import Record
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.buckets import Level, nanoseconds
from gateway.money.quotas.definitions import Quota, bucket_of, usd
from gateway.store.entries import Balance, Entry

TEAM: Final = "team"
DEFINITIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "weekly:<user>": {"capacity": "$20.00", "rate": "$12.00/week"},
    "heavy:<user>": {"capacity": "$45.00", "rate": "$28.00/week"},
    "trial:<user>": {"capacity": "$1.00"},
    "batch": {"capacity": "$20.00", "rate": "$9.00/week", "on_exceed": "notify"},
    # a quota that refuses calls would also refuse those of models without a price
    TEAM: {"capacity": "$250.00", "rate": "$360.00/month", "on_exceed": "notify"},
}
"""The section `quotas` of the demo's configuration."""


def charged_to(quota: str) -> list[dict[str, str]]:
    """Return the value of the key `quotas` in a grant that charges calls to the quota `TEAM`, and to `quota` unless it
    is "".
    """
    return [{"bucket": name} for name in (quota, TEAM) if name]


class SampleCharges:
    """Charges the sample calls to their quotas."""

    def __init__(self, quotas: Mapping[str, Quota], by_login: Mapping[str, str]) -> None:
        """Start with full quotas. `quotas` maps the name of each quota to its definition.

        `by_login` maps each person's login to the name of the person's own quota. The name is "" for a person without
        one.
        """
        self._at = 0.0
        self._by_login = by_login
        self._book = Quotas(clock=lambda: nanoseconds(self._at))
        self._book.configured(quotas)

    def entries(self, calls: Iterable[Record]) -> Iterator[Entry]:
        """Yield an entry for each call, with its charges. The last entry has the balances.

        A session ends with the first call that an empty bucket refuses. Its further calls are left out.
        """
        balances: dict[str, Balance] = {}
        ended: set[str] = set()
        for call in calls:
            if call.session_id in ended:
                continue
            self._at = call.at
            names = self._buckets(call)
            levels = [self._book.level(name) for name in names]
            if empty := next((level for level in levels if level.balance <= 0 and not level.rule.notify), None):
                ended.add(call.session_id)
                yield Entry(call=_refused(call, empty))
            elif call.cost:
                charges = self._book.charge_unreserved(tuple(((name, ""),) for name in names), call.cost)
                balances |= {charge.bucket: Balance(*charge.left) for charge in charges}
                yield Entry(call=replace(call, charges={charge.bucket: charge.amount for charge in charges}))
            else:
                yield Entry(call=call)
        yield Entry(balances=tuple(balances.values()))

    def _buckets(self, call: Record) -> list[str]:
        return [bucket_of(name, call.identity, "") for name in (self._by_login[call.identity], TEAM) if name]


def _refused(call: Record, level: Level) -> Record:
    """Return the record of a call that the gateway refuses because a bucket is empty."""
    again = "an admin can refill it" if level.full_at is None else "try again in 3600 s"
    message = f'quota "{level.bucket}" exceeded: nothing is left of {usd(level.rule.capacity)}; {again}'
    free: dict[str, Any] = {"cost": 0, "cache_saved": 0, "cost_basis": "", "tried": (), "tools": (), "stop": ""}
    return replace(
        call, **free, usage=Usage(), provider="", served_model="", upstream_api="", status=429, outcome="refused",
        error=QUOTA, error_native="", error_message=message,
        duration_ms=3.0, first_event_ms=None, attempts=0, reported=False, estimated=False,
    )  # fmt: skip
