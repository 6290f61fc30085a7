"""Looks up the plan of a call: the decisions that all calls of the caller for this model name have in common.

The call keeps the name as the client sent it. The name may be an alias. Callers may read the records of their refused
calls. To reveal nothing, such a record has only the model's name as the client sent it. The record of an allowed call
has the name of the model that served the call. An alias may lead to several models. If none of them served the call,
the record has the name of the model that was tried last.
"""

from __future__ import annotations

import asyncio

from gateway.call.chain import Call, Next
from gateway.call.plan import NotGranted, not_granted
from gateway.call.responses import Response


async def planned(call: Call, following: Next) -> Response:
    """Set the plan and the granted offers (models of providers) of a call.

    Raises `Refused` if the caller has no role, or may not use a model of this name.
    """
    request = call.request
    call.model = request.model
    runtime, access = call.runtime, call.access
    try:
        call.plan = runtime.plans(access, request.flag, request.dialect, request.operation, request.model)
    except NotGranted:
        raise await asyncio.to_thread(not_granted, runtime.catalog, access, request.model) from None
    call.offers = call.plan.offers
    call.model = call.offers[0].model
    return await following(call)
