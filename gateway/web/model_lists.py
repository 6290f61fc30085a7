"""The routes of model lists, in each API format. A list has only the models that are granted to the caller.

A flag is the plugin of one API format. It declares its lists by the types in `contract/model_lists.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import unquote

import msgspec
from aiohttp import web

from gateway.access.grants import Access
from gateway.call.context import GATEWAY, REQUEST_ID, identity_of
from gateway.call.error_replies import error_reply
from gateway.call.runtime import Runtime
from gateway.contract.errors import NOT_FOUND, GatewayError, Problem
from gateway.contract.json_api import MAX_MODEL
from gateway.contract.model_lists import ListedModel, ModelList
from gateway.contract.registry import Plugin, Registry
from gateway.money.prices.shown import per_token
from gateway.money.prices.table import Prices
from gateway.upstream.catalog import Offer
from gateway.web.advertised import endpoints
from gateway.web.discovery import access_of, encoded
from gateway.web.wrong_paths import in_dialect


def routes(registry: Registry) -> list[web.RouteDef]:
    """Return two routes for each path of a model list: one for the whole list, and one for the entry of a single model.

    If a plugin has no other routes, clients cannot use its API format, so its lists are left out.
    """
    lists: dict[str, list[tuple[Plugin, ModelList]]] = {}
    for flag in registry.flags.values():
        for one in flag.model_lists if flag.routes else ():
            lists.setdefault(one.path, []).append((flag, one))
    return [
        route
        for path, choices in lists.items()
        for page in (_Lists(tuple(choices)),)
        for route in (web.get(path, page.every), web.get(f"{path}/{{model:.+}}", page.one))
    ]


class _Lists(msgspec.Struct, frozen=True):
    """The model lists of all plugins that use one path."""

    choices: tuple[tuple[Plugin, ModelList], ...]

    async def every(self, request: web.Request) -> web.Response:
        access = access_of(request)
        if isinstance(access, web.Response):
            return access
        flag, query, gateway = self._flag(request), request.query, request.app[GATEWAY]
        make = partial(_list, flag, query, gateway.registry, gateway.runtime, access)
        try:
            return _json(request, flag, await encoded(request, (flag.name, tuple(query.items()), access), make))
        except GatewayError as error:
            return _failed(request, flag, error)

    async def one(self, request: web.Request) -> web.Response:
        access = access_of(request)
        if isinstance(access, web.Response):
            return access
        name, flag, gateway = unquote(request.match_info["model"]), self._flag(request), request.app[GATEWAY]
        model = _named(gateway.registry, gateway.runtime, access, name)
        if model is None:
            return in_dialect(request, await asyncio.to_thread(_unknown, request, name), flag)
        try:
            return _json(request, flag, flag.model_entry(model))
        except GatewayError as error:
            return _failed(request, flag, error)

    def _flag(self, request: web.Request) -> Plugin:
        """Return the flag (the plugin of an API format) whose list is requested.

        Several flags may have a list at the same path, and may declare headers that only their clients send. The first
        flag with such a header in the request is returned. If there is none, the first flag that declares no headers is
        returned. If all flags declare headers, the first flag is returned.
        """
        marked = [flag for flag, one in self.choices if any(name in request.headers for name in one.headers)]
        others = [flag for flag, one in self.choices if not one.headers]
        return (*marked, *others, self.choices[0][0])[0]


def _list(flag: Plugin, query: Mapping[str, str], registry: Registry, runtime: Runtime, access: Access) -> bytes:
    """Return the list of the granted models, and of the aliases with a granted target.

    If an alias and a model have the same name, only the alias is listed.
    """
    listed = partial(_listed, registry, runtime.prices)
    of_model: dict[str, list[Offer]] = {}
    for offer in runtime.catalog.visible(access):
        of_model.setdefault(offer.model, []).append(offer)
    models = {name: listed(name, offers) for name, offers in of_model.items()}
    for name, targets in runtime.catalog.visible_aliases(access).items():
        models[name] = listed(name, targets, tuple(offer.name for offer in targets))
    return flag.model_list(list(models.values()), query)


def _named(registry: Registry, runtime: Runtime, access: Access, name: str) -> ListedModel | None:
    """Return the list's entry with this name: an alias with a granted target, else a granted model, else None."""
    alias, listed = runtime.catalog.aliases.get(name), partial(_listed, registry, runtime.prices)
    if alias is not None and (targets := _granted(access, alias.offers)):
        return listed(name, targets, tuple(offer.name for offer in targets))
    offers = _granted(access, runtime.catalog.find(name))
    if not offers:
        return None
    model = offers[0].model  # other offers may be of a model that is called `provider/model`
    return listed(model, [offer for offer in offers if offer.model == model])


def _granted(access: Access, offers: Sequence[Offer]) -> list[Offer]:
    return [offer for offer in offers if access.allows(offer.provider_id, offer.model)]


def _listed(
    registry: Registry, prices: Prices, name: str, offers: Sequence[Offer], alias_of: tuple[str, ...] = ()
) -> ListedModel:
    first = offers[0]
    provider, priced = first.provider, prices.of(first.provider, first.model)
    return ListedModel(
        name=name,
        provider=provider.id,
        provider_name=provider.name or provider.id,
        description=provider.description,
        flags=frozenset(flag for offer in offers for flag in offer.provider.flags),
        endpoints=tuple(endpoints(registry, first)),
        alias_of=alias_of,
        prices=per_token(priced) if priced else None,
        needs_own_key=provider.auth_mode == "passthrough" and not provider.has_credential,
        max_output=first.caps.max_output,
        base=first.base if first.base != name else "",
    )


def _unknown(request: web.Request, name: str) -> Problem:
    text = name[:MAX_MODEL].encode("utf-8", "replace").decode()
    identity = identity_of(request)
    runtime = request.app[GATEWAY].runtime
    near = runtime.catalog.near(name, runtime.grants.access(identity)) if identity else []
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return Problem(NOT_FOUND, f'model "{text}" not found or not granted{hint}', param="model")


def _failed(request: web.Request, flag: Plugin, error: GatewayError) -> web.Response:
    """Return the error response for a plugin that failed to write its list."""
    request_id = request[REQUEST_ID]
    report = partial(request.app[GATEWAY].reports.report, request_id=request_id)
    status, headers, body = error_reply(flag, request_id, error, report)
    return web.Response(status=status, headers=headers, body=body)


def _json(request: web.Request, flag: Plugin, body: bytes) -> web.Response:
    """Return a list or an entry, with the request's id in the header that the clients of the API read."""
    headers = flag.reply_headers(request[REQUEST_ID], None)
    return web.Response(headers=headers, body=body, content_type="application/json")
