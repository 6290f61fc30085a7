"""Looks up the plan of a call: the decisions that are the same for all calls of one caller for one model name.

This step also sets the model name for the record of the call:

- For an allowed call, it is the name of the model that served the call. If no model of an alias served it, it is the
  name of the model that was tried last.
- For a refused call, it is the name that the client sent. Callers may read the records of their refused calls, which
  must not show the models of an alias.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from gateway.call.chain import Call, Next
from gateway.call.plan import NotGranted, not_granted
from gateway.call.responses import Response


def planned(call: Call, following: Next) -> Awaitable[Response]:
    """Set the plan of a call (the decisions for all calls of this caller for this model name) and the granted offers
    (models of providers). Then run the next step.

    Raises `Refused` if the caller has no role, or may not use a model of this name.
    """
    request = call.request
    call.model = request.model
    runtime, access = call.runtime, call.access
    try:
        call.plan = runtime.plans(access, request.flag, request.dialect, request.operation, request.model)
    except NotGranted:
        return _refused(call)
    call.offers = call.plan.offers
    call.model = call.offers[0].model
    return following(call)


async def _refused(call: Call) -> Response:
    raise await asyncio.to_thread(not_granted, call.runtime.catalog, call.access, call.request.model)
