"""Routes that clients call before their first request: model lists, Bedrock's inference profiles, and a health check.

A list contains only models that are granted to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

import orjson
from aiohttp import web

from gateway.call.context import GATEWAY, identity_of
from gateway.call.guard import json_error
from gateway.contract.errors import NOT_FOUND, Problem
from gateway.contract.json_api import MAX_MODEL
from gateway.contract.registry import Registry
from gateway.money.prices.shown import per_token
from gateway.money.prices.table import Prices
from gateway.upstream.catalog import Offer
from gateway.web.advertised import endpoints
from gateway.web.wrong_paths import in_dialect

_RELEASED: Final = "2026-01-01T00:00:00Z"
"""The release date of every model in the lists. The formats require a date, but the gateway does not know the real
dates."""
_RELEASED_UNIX: Final = 1767225600


def routes() -> list[web.RouteDef]:
    profiles = [
        route
        # clients whose base URL ends with a slash send two slashes
        for prefix in ("/bedrock", "", "/bedrock/", "/")
        for route in (
            web.get(f"{prefix}/inference-profiles", inference_profiles),
            web.get(f"{prefix}/inference-profiles/{{profile:.+}}", inference_profile),
        )
    ]
    lists = [
        route
        for prefix in ("", "/anthropic")
        for route in (
            web.get(f"{prefix}/v1/models", models),
            web.get(f"{prefix}/v1/models/{{model:.+}}", model),
        )
    ]
    return [
        web.head("/", alive),
        web.get("/", to_pages, allow_head=False),
        web.get("/healthz", alive),
        *lists,
        *profiles,
    ]


async def alive(request: web.Request) -> web.Response:
    """Return 200. Claude Code sends `HEAD /` before its first call."""
    _ = request
    return web.Response(text="ok\n")


async def to_pages(request: web.Request) -> web.Response:
    _ = request
    raise web.HTTPFound("/ui/")


def granted_offers(request: web.Request) -> Sequence[Offer] | web.Response:
    gateway = request.app[GATEWAY]
    identity = identity_of(request)
    runtime = gateway.runtime
    if identity is None or runtime.grants.access(identity).role is None:
        return json_error(403, "access denied: no role granted")
    return runtime.catalog.visible(runtime.grants.access(identity))


async def models(request: web.Request) -> web.Response:
    """Return the granted models in the format of OpenAI's list, plus the members that Anthropic's SDK reads."""
    offers = granted_offers(request)
    if isinstance(offers, web.Response):
        return offers
    gateway = request.app[GATEWAY]
    data = list({**_models(offers, gateway.registry, gateway.runtime.prices), **_aliases(request)}.values())
    ids = [entry["id"] for entry in data]
    return _json(
        {
            "object": "list",
            "data": data,
            "has_more": False,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
    )


async def model(request: web.Request) -> web.Response:
    offers = granted_offers(request)
    if isinstance(offers, web.Response):
        return offers
    gateway = request.app[GATEWAY]
    name = request.match_info["model"]
    if (alias := _aliases(request).get(name)) is not None:
        return _json(alias)
    for offer in offers:
        if name in {offer.model, offer.name}:
            return _json(_model(offer.model, offer, gateway.registry, gateway.runtime.prices))
    return _not_found(request, name)


def _not_found(request: web.Request, name: str) -> web.Response:
    """Return a 404 for an unknown model, in the error format of the client's API."""
    text = name[:MAX_MODEL].encode("utf-8", "replace").decode()
    identity = identity_of(request)
    runtime = request.app[GATEWAY].runtime
    near = runtime.catalog.near(name, runtime.grants.access(identity)) if identity else []
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    problem = Problem(NOT_FOUND, f'model "{text}" not found or not granted{hint}', param="model")
    return in_dialect(request, problem) or json_error(404, problem.message)


def _models(offers: Sequence[Offer], registry: Registry, prices: Prices) -> dict[str, dict[str, Any]]:
    """Return the entries of the granted models, by name. If providers offer the same model, the first offer is used."""
    listed: dict[str, dict[str, Any]] = {}
    for offer in offers:
        if offer.model not in listed:
            listed[offer.model] = _model(offer.model, offer, registry, prices)
    return listed


def _aliases(request: web.Request) -> dict[str, dict[str, Any]]:
    """Return the entries of the aliases with a granted target, by name. An alias replaces a model of the same name."""
    identity = identity_of(request)
    gateway = request.app[GATEWAY]
    runtime = gateway.runtime
    if identity is None:
        return {}
    listed = {}
    for name, offers in runtime.catalog.visible_aliases(runtime.grants.access(identity)).items():
        listed[name] = _model(name, offers[0], gateway.registry, runtime.prices)
        listed[name]["metadata"]["alias_of"] = [offer.name for offer in offers]
    return listed


def _model(name: str, offer: Offer, registry: Registry, prices: Prices) -> dict[str, Any]:
    """Return the entry of a model or alias in the list.

    If no price is known, `pricing` is left out, because clients expect an object of numbers there.
    """
    provider = offer.provider
    priced = prices.of(offer.provider, offer.model)
    return {
        "id": name,
        "object": "model",
        "type": "model",
        "created": _RELEASED_UNIX,
        "created_at": _RELEASED,
        "display_name": name,
        "owned_by": provider.id,
        "supported_endpoints": endpoints(registry, offer),
        "metadata": {
            "provider": {
                "id": provider.id,
                "name": provider.name or provider.id,
                "description": provider.description,
                # Aperture's hosted service sends a name here, and its launcher requires a name
                "upstream": provider.id,
                "requires_client_auth": provider.auth_mode == "passthrough" and not provider.apikey,
            }
        },
        **({"pricing": per_token(priced)} if priced else {}),
    }


async def inference_profiles(request: web.Request) -> web.Response:
    """Return the reply of Bedrock's ListInferenceProfiles, with which Claude Code discovers models."""
    offers = granted_offers(request)
    if isinstance(offers, web.Response):
        return offers
    kind = request.query.get("type", "SYSTEM_DEFINED")
    granted = [_profile(offer) for offer in offers if _is_bedrock(offer)]
    profiles = granted if kind == "SYSTEM_DEFINED" else []
    return _json({"inferenceProfileSummaries": profiles})


async def inference_profile(request: web.Request) -> web.Response:
    """Return the reply of Bedrock's GetInferenceProfile, which Claude Code calls if its model is set to an ARN."""
    offers = granted_offers(request)
    if isinstance(offers, web.Response):
        return offers
    wanted = unquote(request.match_info["profile"])
    for offer in offers:
        if _is_bedrock(offer) and wanted == offer.model:
            return _json(_profile(offer))
    message = f'inference profile "{wanted}" not found or not granted'
    return web.Response(
        status=404,
        body=orjson.dumps({"message": message}),
        headers={"x-amzn-errortype": "ResourceNotFoundException", "content-type": "application/json"},
    )


def _is_bedrock(offer: Offer) -> bool:
    return any(flag.startswith("bedrock_") for flag in offer.provider.flags)


def _profile(offer: Offer) -> dict[str, Any]:
    """Return an InferenceProfileSummary with the members that botocore's service model requires."""
    arn = offer.model if offer.model.startswith("arn:") else f"arn:aws:bedrock:::inference-profile/{offer.model}"
    return {
        "inferenceProfileName": offer.model,
        "inferenceProfileId": offer.model,
        "inferenceProfileArn": arn,
        "description": offer.provider.description or offer.provider_id,
        "models": [],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    }


def _json(data: Any) -> web.Response:
    return web.Response(body=orjson.dumps(data), content_type="application/json")
