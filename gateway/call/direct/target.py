"""Finds the provider of a request below `/direct`, checks the grant, and recognises requests of known APIs.

- A request is recognised if its method and path belong to an API of the provider (a compatibility flag, the plugin of
  an API format). The plugin then reads the model and the usage. Otherwise the cost is unknown.
- The request is passed on unchanged, whether it is recognised or not.
- Only the path must be granted, not the model. So a grant for a path allows every model that the path can name.
- A caller without a grant learns nothing: the refusal is the same whether the provider exists or not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from gateway.call.candidate import Candidate
from gateway.call.chain import Call, Next
from gateway.call.conversion_choice import target_of
from gateway.call.direct.paths import DirectPath, direct_path
from gateway.call.operations import DIRECT, UNBILLED_OPERATIONS
from gateway.call.plan import NO_ROLE, Plan, added_headers
from gateway.call.request_parsing import parse_request
from gateway.call.responses import Response
from gateway.config.model import Provider
from gateway.contract.errors import NOT_FOUND, PERMISSION, GatewayError, Problem, Refused, invalid
from gateway.contract.flag import ClientRequest, HttpRequest
from gateway.contract.losses import Way
from gateway.contract.record import Direct
from gateway.contract.registry import Plugin, Registry
from gateway.contract.route_paths import route_match
from gateway.upstream.http1.targets import base
from gateway.upstream.process_pool import ProcessPool

MAX_PATH: Final = 500
"""Maximum number of characters of a path in a record and in a message."""


class DirectTarget(msgspec.Struct, frozen=True):
    """The step that decides where a direct request goes. It takes the place of the steps that plan and route other
    calls.
    """

    registry: Registry
    pool: ProcessPool

    async def __call__(self, call: Call, following: Next) -> Response:
        """Set the only candidate of the call: the provider to which the request is sent.

        Raises `Refused` if the request is not granted, the provider does not exist, or the path cannot be sent.
        """
        request = call.request
        path = direct_path(request.path)
        shown = path.meanings[1][:MAX_PATH]
        call.direct = Direct(request.method, shown, len(request.top.body))
        provider = _provider(call, path, f"{request.method} {shown}")
        if base(provider.baseurl).replaces_version(path.rest):
            raise invalid(
                f'path: begins with another version than the base URL of "{provider.id}", which ends with one; '
                "leave the version out",
                "path",
            )
        flag, recognised = await self._recognised(provider, path, request)
        offer = call.runtime.catalog.at_provider(provider, "" if recognised is None else recognised.model)
        if recognised is not None:
            call.request = recognised if offer.model else _unlisted(recognised)
        call.model = offer.model
        candidate = Candidate(offer, flag or call.flag, target_of(offer, flag or call.flag), Way.NATIVE)
        call.plan = Plan((offer,), (candidate,), {offer.name: added_headers(call.access, offer)})
        call.offers, call.candidates = call.plan.offers, call.plan.candidates
        return await following(call)

    async def _recognised(
        self, provider: Provider, path: DirectPath, request: ClientRequest
    ) -> tuple[Plugin | None, ClientRequest | None]:
        """Return the plugin that can read a request, and the request as parsed by this plugin. Both are None if no
        plugin can read the request.

        The returned request keeps the path, query and headers that the client sent.
        """
        flags = [flag for name in provider.flags if (flag := self.registry.flags.get(name)) is not None]
        for flag, message in _messages(flags, path, request):
            try:
                read = await parse_request(self.pool, flag, message)
            except GatewayError:
                continue  # the provider itself tells the client of a fault
            return flag, replace(
                read, method=request.method, path=request.path, query=request.query, headers=request.headers
            )
        return None, None


def _unlisted(recognised: ClientRequest) -> ClientRequest:
    """Return a copy of a recognised request whose model the provider does not list. The copy names no model.

    The operation of a billed request becomes `DIRECT`. Its cost is unknown until the reply names the model.
    """
    billed = recognised.operation not in UNBILLED_OPERATIONS
    return replace(recognised, model="", operation=DIRECT if billed else recognised.operation)


def _provider(call: Call, path: DirectPath, shown: str) -> Provider:
    """Return the provider that the path names. Raises `Refused` if there is none, or the request is not granted."""
    access = call.access
    if access.role is None:
        raise Refused(NO_ROLE)
    if not access.allows_direct(call.request.method, *path.meanings):
        message = f'access denied: {shown} is not granted; a grant needs it in "direct_paths"'
        raise Refused(Problem(PERMISSION, message, param="path"))
    provider = call.runtime.config.providers.get(path.provider)
    if provider is None or provider.disabled:
        message = f'path: provider "{path.provider[:MAX_PATH]}" does not exist or is disabled'
        raise Refused(Problem(NOT_FOUND, message, param="path"))
    return provider


def _messages(
    flags: Sequence[Plugin], path: DirectPath, request: ClientRequest
) -> Sequence[tuple[Plugin, HttpRequest]]:
    """Return a pair for each route of `flags` (plugins of API formats) that fits the method and path of a direct
    request: the plugin, and the request as input for this plugin's parser.
    """
    # an encoded slash is part of an id here: if it were a slash, the request could pass for another operation
    kept = path.meanings[1].split("/", 3)[3]
    return [
        (flag, HttpRequest(route, path.rest, request.query, request.headers, _params(match), request.top.body))
        for flag in flags
        for route in flag.routes
        if route.method == request.method and (match := route_match(route.path).fullmatch(f"/{kept}")) is not None
    ]


def _params(match: re.Match[str]) -> dict[str, str]:
    """Return the decoded values of the placeholders in a route's path."""
    return {name: value.replace("%2F", "/") for name, value in match.groupdict().items()}
