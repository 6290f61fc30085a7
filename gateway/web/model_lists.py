"""The routes of model lists, in the formats of all flags. A list has only the models that are granted to the caller.

`contract/model_lists.py` says what a flag declares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from aiohttp import web

from gateway.call.context import GATEWAY, REQUEST_ID, identity_of
from gateway.call.error_replies import error_reply
from gateway.contract.errors import NOT_FOUND, GatewayError, Problem
from gateway.contract.json_api import MAX_MODEL
from gateway.contract.model_lists import ListedModel, ModelList
from gateway.contract.registry import Plugin, Registry
from gateway.money.prices.shown import per_token
from gateway.money.prices.table import Prices
from gateway.upstream.catalog import Offer
from gateway.web.advertised import endpoints
from gateway.web.discovery import granted_offers
from gateway.web.wrong_paths import in_dialect


def routes(registry: Registry) -> list[web.RouteDef]:
    """Return two routes for each path of a list: one for the whole list, and one for the entry of a single model.

    A flag without routes has no clients, so its lists are left out.
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


@dataclass(frozen=True, slots=True)
class _Lists:
    """The lists of several flags at one path."""

    choices: tuple[tuple[Plugin, ModelList], ...]

    async def every(self, request: web.Request) -> web.Response:
        offers = granted_offers(request)
        if isinstance(offers, web.Response):
            return offers
        models = list({model.name: model for model in _models(request, offers)}.values())
        flag = self._flag(request)
        try:
            return _json(flag.model_list(models, request.query))
        except GatewayError as error:
            return _failed(request, flag, error)

    async def one(self, request: web.Request) -> web.Response:
        offers = granted_offers(request)
        if isinstance(offers, web.Response):
            return offers
        name, flag = unquote(request.match_info["model"]), self._flag(request)
        for model in _models(request, offers, name):
            try:
                return _json(flag.model_entry(model))
            except GatewayError as error:
                return _failed(request, flag, error)
        return in_dialect(request, _unknown(request, name), flag)

    def _flag(self, request: web.Request) -> Plugin:
        """Return the flag whose client sent the request, which is recognized by a header.

        If no flag is recognized, return a flag whose list names no headers, since its clients send none.
        """
        marked = [flag for flag, one in self.choices if any(name in request.headers for name in one.headers)]
        others = [flag for flag, one in self.choices if not one.headers]
        return (*marked, *others, self.choices[0][0])[0]


def _models(request: web.Request, offers: Sequence[Offer], name: str = "") -> Iterator[ListedModel]:
    """Yield the granted models, then the aliases with a granted target. With `name`, yield only those of this name.

    An alias replaces a model of the same name.
    """
    gateway = request.app[GATEWAY]
    runtime, identity = gateway.runtime, identity_of(request)
    assert identity is not None
    aliases = runtime.catalog.visible_aliases(runtime.grants.access(identity))
    listed = partial(_listed, gateway.registry, runtime.prices)
    of_model: dict[str, list[Offer]] = {}
    for offer in offers:
        if not name or name in {offer.model, offer.name}:
            of_model.setdefault(offer.model, []).append(offer)
    if name in aliases:
        of_model.clear()
    for model, same in of_model.items():
        yield listed(model, same)
    for alias, targets in aliases.items():
        if not name or name == alias:
            yield listed(alias, targets, tuple(offer.name for offer in targets))


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
        needs_own_key=provider.auth_mode == "passthrough" and not provider.apikey and provider.issuer is None,
        max_output=first.caps.max_output,
    )


def _unknown(request: web.Request, name: str) -> Problem:
    text = name[:MAX_MODEL].encode("utf-8", "replace").decode()
    identity = identity_of(request)
    runtime = request.app[GATEWAY].runtime
    near = runtime.catalog.near(name, runtime.grants.access(identity)) if identity else []
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return Problem(NOT_FOUND, f'model "{text}" not found or not granted{hint}', param="model")


def _failed(request: web.Request, flag: Plugin, error: GatewayError) -> web.Response:
    """Return the response for a flag that fails to write its list."""
    request_id = request[REQUEST_ID]
    report = partial(request.app[GATEWAY].reports.report, request_id=request_id)
    status, headers, body = error_reply(flag, request_id, error, report)
    return web.Response(status=status, headers=headers, body=body)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
