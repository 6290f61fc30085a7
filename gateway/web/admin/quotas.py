"""GET /api/quotas and POST /api/quotas/refill: the quota buckets with their balances, and refills.

A bucket has the amount that calls may still use. Users see the buckets that their own calls are charged to. Admins also
see shared buckets, every bucket that is not full, and any bucket that the request names. Only an admin may refill a
bucket. `gateway.money.quotas` keeps the balances.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.access.identity.caller import Identity
from gateway.call.context import GATEWAY, REQUEST_ID, Gateway, identity_of
from gateway.call.guard import json_error
from gateway.call.request_body import is_compressed
from gateway.config.sections.quotas import nanodollars
from gateway.contract.record import dollars
from gateway.money.quotas.book import Quotas, UnknownBucket
from gateway.money.quotas.buckets import Level
from gateway.money.quotas.definitions import bucket_of
from gateway.store.base import StoreFailed, rfc3339
from gateway.web.admin.problems import REPLACED

MAX_ROWS: Final = 1_000
"""Maximum number of buckets in one answer. The emptiest buckets come first."""
MAX_BODY: Final = 4_096
MAX_BUCKET: Final = 2_048
"""Maximum number of characters of a bucket's name. The name consists of a quota's name and a login."""
LATEST: Final = 250_000_000_000.0
"""Latest Unix time in seconds that `refills_at` shows, in the year 9892. A later time is shown as never."""
BODY_SECONDS: Final = 10.0
_AWAY: Final = "the balances cannot be changed now, because the database is away; look at them before you try again"
PARAMETERS: Final = frozenset({"bucket"})


def routes() -> list[web.RouteDef]:
    return [web.get("/api/quotas", show), web.post("/api/quotas/refill", refill)]


async def show(request: web.Request) -> web.Response:
    """Return {"quotas": [...]}: at most `MAX_ROWS` buckets, the emptiest first."""
    gateway = request.app[GATEWAY]
    identity = identity_of(request)
    role = gateway.runtime.grants.access(identity).role if identity else None
    if identity is None or role is None:
        return json_error(403, "access denied: no role granted")
    if unknown := sorted(set(request.query) - PARAMETERS):
        return json_error(400, f"{unknown[0][:50]}: is no parameter; there is bucket")
    wanted = request.query.get("bucket")
    if wanted is None:
        levels = await levels_of(gateway, identity, everybody=role == "admin")
    elif role != "admin" and wanted not in _mine(gateway, identity):
        return json_error(403, "bucket: access denied: only an admin may see what others are charged to")
    else:
        await _look(gateway)
        try:
            levels = [gateway.quotas.level(wanted)]
        except UnknownBucket:
            return _unknown(wanted)
    return _json({"quotas": [_row(level, gateway.quotas) for level in levels]})


async def refill(request: web.Request) -> web.Response:
    """Add an amount to a bucket, up to the bucket's capacity, and return the bucket.

    An example of the body is {"bucket": "daily:alice@example.com", "amount": "$5.00"}.
    """
    gateway = request.app[GATEWAY]
    identity = identity_of(request)
    if identity is None or gateway.runtime.grants.access(identity).role != "admin":
        return json_error(403, "access denied: only an admin may refill a quota")
    if request.content_type != "application/json" or is_compressed(request):
        # a browser sends this content type to another site only after a CORS preflight request
        refused = json_error(415, "the body must be application/json, not compressed")
        refused.headers["accept-encoding"] = "identity"
        return refused
    try:
        bucket, amount = _parse_refill(await small_body(request))
        await add(gateway, identity, request[REQUEST_ID], bucket, amount)
    except WrongRefill as error:
        return json_error(error.status, str(error))
    except UnknownBucket:
        return _unknown(bucket)
    return _json(_row(gateway.quotas.level(bucket), gateway.quotas))


async def add(gateway: Gateway, identity: Identity, request_id: str, bucket: str, amount: int) -> None:
    """Add an amount in nanodollars to a bucket, and log who did it.

    Raises `UnknownBucket` if there is no such bucket. Raises `WrongRefill` if another process is replacing this one, or
    if the balances are in a database that cannot be reached.
    """
    if gateway.follower.is_replaced:
        raise WrongRefill(REPLACED, 503)
    try:
        charge = await gateway.keeper.refill(gateway.quotas, bucket, amount)
    except StoreFailed:
        raise WrongRefill(_AWAY, 503) from None
    gateway.log.info(
        "quota.refilled",
        who=identity.login,
        node=identity.node,
        request_id=request_id,
        bucket=bucket,
        amount_usd=dollars(-charge.amount),
        balance_usd=dollars(charge.balance),
    )


class WrongRefill(ValueError):
    """The error for a refill that cannot be done. The message says what is wrong."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


async def small_body(request: web.Request) -> bytes:
    """Return a request's body. Raises `WrongRefill` if the body is too large or too slow."""
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while data := await request.content.readany():
                body += data
                if len(body) > MAX_BODY:
                    raise WrongRefill(f"the body is larger than {MAX_BODY} bytes", 413)
    except TimeoutError:
        raise WrongRefill(f"the body did not arrive within {BODY_SECONDS:g} seconds", 408) from None
    return body


def _parse_refill(body: bytes) -> tuple[str, int]:
    """Return the bucket's name and the amount in nanodollars. Raises `WrongRefill` if the body is wrong."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WrongRefill(f"the body is no JSON: {error.msg} at {error.lineno}:{error.colno}") from None
    if not isinstance(given, dict):
        raise WrongRefill('the body must be {"bucket": "daily:alice@example.com", "amount": "$5.00"}')
    if unknown := sorted(set(given) - {"bucket", "amount"}):
        raise WrongRefill(f"{unknown[0][:50]}: is no member; there are bucket and amount")
    bucket = given.get("bucket")
    if not isinstance(bucket, str) or not 0 < len(bucket) <= MAX_BUCKET:
        raise WrongRefill('bucket: must be the name of a bucket, such as "daily:alice@example.com"')
    return bucket, parse_amount(given.get("amount", ""))


def parse_amount(text: Any) -> int:
    """Return the nanodollars of a text such as "$5.00". Raises `WrongRefill` if the text is no amount above zero."""
    try:
        amount = nanodollars(text)
    except ValueError as error:
        raise WrongRefill(f"amount: {error}") from None
    if not amount:
        raise WrongRefill('amount: must be above zero, such as "$5.00"')
    return amount


async def levels_of(gateway: Gateway, identity: Identity, *, everybody: bool) -> Sequence[Level]:
    """Return the caller's own buckets with their balances, or all buckets if `everybody` is True.

    The emptiest bucket is first.
    """
    await _look(gateway)
    # in a thread, because many buckets would block the event loop for too long
    return await asyncio.to_thread(_all_levels, gateway, identity, everybody=everybody)


async def _look(gateway: Gateway) -> None:
    """Bring the balances and the reserved amounts up to date.

    The database has the balances that several gateways share. The worker processes have the amounts that their calls
    have reserved.
    """
    await asyncio.gather(gateway.keeper.look(), gateway.refresh())


def _all_levels(gateway: Gateway, identity: Identity, *, everybody: bool) -> Sequence[Level]:
    return _levels(gateway.quotas, _mine(gateway, identity), everybody=everybody)


def _mine(gateway: Gateway, identity: Identity) -> dict[str, None]:
    """Return the names of all quota buckets to which a call of the caller may be charged. The model of the call decides
    which of them are charged.
    """
    access = gateway.runtime.grants.access(identity)
    return dict.fromkeys(
        bucket_of(name, identity.login, identity.node) for name in access.all_quotas if name in gateway.quotas.rules
    )


def _levels(quotas: Quotas, mine: Iterable[str], *, everybody: bool) -> Sequence[Level]:
    levels = {name: quotas.level(name) for name in (*mine, *(quotas.shared() if everybody else ()))}
    if everybody:
        levels |= {level.bucket: level for level in quotas.levels()}
    return nsmallest(MAX_ROWS, levels.values(), key=_left)


def _left(level: Level) -> tuple[int, str]:
    """Return a key that sorts buckets by the fraction of their capacity that is left, and then by name."""
    capacity = level.rule.capacity
    return (level.balance * 1_000_000 // capacity if capacity else 0), level.bucket


def _row(level: Level, quotas: Quotas) -> dict[str, Any]:
    quota, window = quotas.definitions.get(level.rule.name), level.rule.window
    return {
        "bucket": level.bucket,
        "definition": level.rule.name,
        "capacity_usd": dollars(level.rule.capacity),
        "balance_usd": dollars(level.balance),
        "reserved_usd": dollars(level.reserved),
        "rate": (quota.rate if quota else "") or None,
        "reset": window.unit if window else None,
        "time_zone": window.zone if window else None,
        "refills_at": None if level.full_at is None or level.full_at > LATEST else rfc3339(level.full_at),
        "on_exceed": "notify" if level.rule.notify else "reject",
    }


def _unknown(bucket: str) -> web.Response:
    text = bucket[:200].encode("utf-8", "replace").decode()
    return json_error(404, f'bucket: no quota has a bucket "{text}"; GET /api/quotas names those that there are')


def _json(data: Any) -> web.Response:
    headers = {"cache-control": "no-store"}
    return web.Response(body=orjson.dumps(data), content_type="application/json", headers=headers)
