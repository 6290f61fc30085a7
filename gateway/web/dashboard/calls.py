"""The page of one call: its way through the gateway, its times, and the arithmetic of its cost.

The id is a parameter of the address, because a request that was refused early has the id that its client chose.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from aiohttp import web

from gateway.call.context import GATEWAY, Gateway
from gateway.contract.record import Record
from gateway.money.prices.rates import PER_MILLION, Priced, units_for
from gateway.web.admin.sessions import Missing, scope
from gateway.web.dashboard import words
from gateway.web.dashboard.frame import page
from gateway.web.dashboard.links import session_href
from gateway.web.query_parameters import BadQuery, check_names

_KINDS: Final = (
    ("input", "Fresh input"),
    ("cache_read", "Read from cache"),
    ("cache_write_5m", "Written to cache for 5 minutes"),
    ("cache_write_1h", "Written to cache for 1 hour"),
    ("output", "Output"),
    ("reasoning", "Output for reasoning"),
)


class PriceLine(NamedTuple):
    """Tokens of a kind, times their price."""

    kind: str
    tokens: int
    price: str
    """Dollars for 1M tokens."""
    amount: str
    """Exact dollars."""


class Arithmetic(NamedTuple):
    """The computation of a call's cost from a row of the price list."""

    lines: tuple[PriceLine, ...]
    total: str
    """The exact sum in dollars, before it is rounded to the cost."""
    adjustment: str
    """The factor of the configuration that the prices contain; "" if there is none."""


async def call(request: web.Request) -> web.Response:
    seen = scope(request)
    check_names(request.query, ("id", "identity"))
    name = request.query.get("id", "")
    if not name:
        raise BadQuery("id: is missing; open a call from the page of its session")
    gateway = request.app[GATEWAY]
    record = await gateway.store.call(seen.identity, name)
    if record is None:
        raise Missing(f'There is no call "{name[:200]}", it is not yours, or it is older than records are kept.')
    return await page(
        request, "call.html",
        call=record, arithmetic=arithmetic(gateway, record), session_href=_session_href(record, admin=seen.admin),
        current="/ui/sessions",
    )  # fmt: skip


def _session_href(record: Record, *, admin: bool) -> str:
    """Return the address of the call's session; "" if the call is in no session."""
    if not record.session_id:
        return ""
    return session_href(record.session_id, record.identity if admin else None)


def arithmetic(gateway: Gateway, record: Record) -> Arithmetic | None:
    """Return the computation of a call's cost.

    Return None if the present price list does not lead to the recorded cost by tokens and prices alone: if the list
    has changed, several parts were billed, or tools have fees.
    """
    provider = gateway.runtime.config.providers.get(record.provider)
    priced = gateway.runtime.prices.of(provider, record.model) if provider else None
    if priced is None or record.cost is None or record.extra or len(record.parts) > 1:
        return None
    steps = priced.rates(record.at).steps(record.tier, record.geo)
    cost = priced.cost(record.usage, tier=record.tier, geo=record.geo, at=record.at)
    if steps is None or priced.row(record.at) != record.cost_basis or cost != record.cost:
        return None
    usage, units = record.usage, units_for(record.usage, steps)
    counts = {kind: getattr(usage, kind) for kind, _ in _KINDS}
    counts["reasoning"] = min(usage.reasoning, usage.output) if units.reasoning is not None else 0
    counts["output"] -= counts["reasoning"]
    lines = [
        (_line(priced, label, counts[kind], getattr(units, kind)), counts[kind] * getattr(units, kind))
        for kind, label in _KINDS
        if counts[kind]
    ]
    return Arithmetic(
        tuple(line for line, _ in lines),
        priced.usd(sum(amount for _, amount in lines)),
        f"{priced.adjustment:f}" if priced.adjustment != Decimal(1) else "",
    )


def _line(priced: Priced, label: str, tokens: int, unit: int) -> PriceLine:
    return PriceLine(label, tokens, words.cents(priced.usd(unit, PER_MILLION)), priced.usd(tokens * unit))
