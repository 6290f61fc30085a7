"""The page Quotas: the levels of buckets, which buckets refuse calls, when they are full again, and refills by admins.

`call/guard.py` recognizes forms of other sites by the header `Origin`, and refuses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from gateway.call.context import GATEWAY, REQUEST_ID, Gateway, identity_of
from gateway.money.quotas.book import UnknownBucket
from gateway.money.quotas.buckets import Level
from gateway.web.admin.quotas import LATEST, MAX_ROWS, WrongRefill, add, levels_of, parse_amount, small_body
from gateway.web.admin.sessions import Denied, Missing, scope
from gateway.web.dashboard.frame import page
from gateway.web.query_parameters import BadQuery, check_names

EXAMPLE: Final = '"quotas": {"daily:<user>": {"capacity": "$10.00", "rate": "$10.00/day"}}'
"""An example of a quota in the configuration. The page shows the example if no quota is configured."""
LOW: Final = 0.8
"""A bucket is shown as low if this fraction of its capacity, or more, is used."""


class Bucket(NamedTuple):
    """A quota bucket, as a row of the table on the page."""

    name: str
    definition: str
    balance: int
    capacity: int
    reserved: int
    level: float
    """Percentage of the capacity that is left. It is the width of the bar."""
    css: str
    state: str
    refill: str
    """The rate or the window of the refill, in words."""
    full_at: float | None


async def quotas(request: web.Request) -> web.Response:
    seen = scope(request)
    check_names(request.query, ("bucket", "done"))
    gateway, identity = request.app[GATEWAY], identity_of(request)
    assert identity is not None, "a caller with a role is identified"
    levels = await levels_of(gateway, identity, everybody=seen.admin)
    rows = [bucket_of_level(level, gateway) for level in levels]
    return await page(
        request, "quotas.html",
        rows=rows, held=_names(rows, "held"), over=_names(rows, "over"), most=MAX_ROWS,
        defined=len(gateway.quotas.definitions),
        done=request.query.get("done", ""), bucket=request.query.get("bucket", ""), example=EXAMPLE,
    )  # fmt: skip


def _names(rows: Iterable[Bucket], state: str) -> list[str]:
    """Return the names of the buckets in a state."""
    return [row.name for row in rows if row.state == state]


async def refill(request: web.Request) -> web.Response:
    """Add the form's amount to a bucket, and redirect to the page."""
    if not scope(request).admin:
        raise Denied("access denied: only an admin may refill a quota")
    gateway, identity = request.app[GATEWAY], identity_of(request)
    assert identity is not None, "a caller with a role is identified"
    bucket = ""
    try:
        form = dict(parse_qsl((await small_body(request)).decode("utf-8", "replace")))
        bucket, amount = form.get("bucket", ""), form.get("amount", "").strip()
        nanodollars = parse_amount(amount if amount.startswith("$") else f"${amount}")
        await add(gateway, identity, request[REQUEST_ID], bucket, nanodollars)
    except WrongRefill as error:
        raise BadQuery(str(error)) from None
    except UnknownBucket:
        raise Missing(f'No quota has a bucket "{bucket[:200]}".') from None
    raise web.HTTPSeeOther(f"/ui/quotas?{urlencode({'done': amount, 'bucket': bucket}, errors='replace')}")


def bucket_of_level(level: Level, gateway: Gateway) -> Bucket:
    rule, definition = level.rule, gateway.quotas.definitions.get(level.rule.name)
    left = max(0, level.balance)
    if level.balance <= 0:
        state, css = ("over", "empty") if rule.notify else ("held", "empty")
    else:
        state, css = ("low", "low") if level.spent >= LOW else ("", "")
    rate = definition.rate if definition else ""
    return Bucket(
        name=level.bucket,
        definition=rule.name,
        balance=level.balance,
        capacity=rule.capacity,
        reserved=level.reserved,
        level=round(100 * left / rule.capacity, 2) if rule.capacity else 0,
        css=css,
        state=state,
        refill=f"each {rule.window.unit} ({rule.window.zone})" if rule.window else rate or "never",
        full_at=None if level.full_at is None or level.full_at > LATEST else level.full_at,
    )
