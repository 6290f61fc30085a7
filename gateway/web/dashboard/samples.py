"""Sample calls with a model that is granted to the caller."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from gateway.call.context import GATEWAY, identity_of
from gateway.web.dashboard import views

PLACEHOLDER: Final = "<model>"


async def granted(request: web.Request) -> dict[tuple[str, str], None]:
    """Return the pairs (provider id, model) that are granted to the caller, in the order of the catalog.

    A thread finds them, because checking thousands of models would block the event loop for too long.
    """
    return await asyncio.to_thread(_granted, request)


def _granted(request: web.Request) -> dict[tuple[str, str], None]:
    runtime = request.app[GATEWAY].runtime
    identity = identity_of(request)
    offers = runtime.catalog.visible(runtime.grants.access(identity)) if identity else []
    return dict.fromkeys((offer.provider_id, offer.model) for offer in offers)


async def sample_call(request: web.Request) -> str:
    """Return a `curl` command for a model that is granted to the caller, or for `PLACEHOLDER` if none is granted."""
    model = next((model for _, model in await granted(request)), PLACEHOLDER)
    return views.curl(f"{request.scheme}://{request.host}", model)
