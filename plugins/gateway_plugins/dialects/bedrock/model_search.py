"""Finds the models of an Amazon Bedrock account, with ListFoundationModels and ListInferenceProfiles.

- These are operations of Bedrock's control plane. If the provider's host is AWS's bedrock-runtime, the requests go to
  the control plane of the same region. If it is any other host, such as a proxy, the requests go to this host.
- A foundation model is offered if it writes text and can be called on demand.
- An inference profile is offered if it is active and its model writes text. Clients call a profile of AWS by its id,
  and an application profile by its ARN.
- An application profile is made from a profile of AWS or from a foundation model. It does not name its origin, although
  the price depends on it. So the gateway assumes that the origin is the AWS profile with the same foundation models. If
  there is no such AWS profile, it assumes that the origin is the foundation model.

Source: botocore's service model of bedrock.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.contract.aws_domains import AWS_DOMAIN
from gateway.contract.flag import DiscoveredModel, ModelPages, ModelSearch, StepResponse, UpstreamRequest
from gateway_plugins.shared import lenient, model_pages

_RUNTIME: Final = re.compile(rf"bedrock-runtime(-fips)?\.[a-z0-9-]+\.(?:{AWS_DOMAIN})")
"""Pattern for the hosts of bedrock-runtime at AWS."""
_TEXT: Final = "TEXT"
_ON_DEMAND: Final = "ON_DEMAND"
_ACTIVE: Final = "ACTIVE"

_Profiles = Generator[UpstreamRequest, StepResponse, list[dict[str, Any]]]


def discover_models(host: str) -> ModelSearch:
    """Return a search that lists the provider's models.

    If `host` is a host of bedrock-runtime, the requests go to the control plane of the same region (`bedrock.…`).
    """
    return ModelSearch(_pages(), control_plane(host))


def control_plane(host: str) -> str:
    """Return the first label of the control plane's host name: `bedrock`, or `bedrock-fips` for a FIPS endpoint.

    Return "" if requests to the control plane go to the provider's own host.
    """
    runtime = _RUNTIME.fullmatch(host)
    return "" if runtime is None else f"bedrock{runtime[1] or ''}"


def _pages() -> ModelPages:
    models, _ = yield from model_pages.page("/foundation-models", "modelSummaries", {})
    defined = yield from _profiles("SYSTEM_DEFINED")
    applications = yield from _profiles("APPLICATION")
    texts = {lenient.text(model.get("modelId")): _TEXT in _words(model, "outputModalities") for model in models}
    system = {_identity(profile): lenient.text(profile.get("inferenceProfileId")) for profile in defined}
    return [*_on_demand(models, texts), *_defined(defined, texts), *_applications(applications, texts, system)]


def _profiles(kind: str) -> _Profiles:
    """Return all profiles of one type. Bedrock lists application profiles only if the type is requested."""
    profiles: list[dict[str, Any]] = []
    token = ""
    while True:
        query = {"maxResults": str(model_pages.PER_PAGE), "nextToken": token, "type": kind}
        entries, page = yield from model_pages.page("/inference-profiles", "inferenceProfileSummaries", query)
        profiles += entries
        token = lenient.text(page.get("nextToken"))
        if not token:
            return profiles


def _on_demand(models: Sequence[dict[str, Any]], texts: Mapping[str, bool]) -> Iterator[DiscoveredModel]:
    for model in models:
        name = lenient.text(model.get("modelId"))
        if texts[name] and _ON_DEMAND in _words(model, "inferenceTypesSupported"):
            yield DiscoveredModel(name)


def _defined(profiles: Sequence[dict[str, Any]], texts: Mapping[str, bool]) -> Iterator[DiscoveredModel]:
    for profile in profiles:
        if _is_usable(profile, texts):
            yield DiscoveredModel(lenient.text(profile.get("inferenceProfileId")))


def _applications(
    profiles: Sequence[dict[str, Any]], texts: Mapping[str, bool], system: Mapping[frozenset[str], str]
) -> Iterator[DiscoveredModel]:
    for profile in profiles:
        if _is_usable(profile, texts):
            base = system.get(_identity(profile)) or _model(profile)
            yield DiscoveredModel(lenient.text(profile.get("inferenceProfileArn")), base)


def _is_usable(profile: Mapping[str, Any], texts: Mapping[str, bool]) -> bool:
    """Return whether a profile is active and its model writes text.

    `texts` tells for each foundation model whether it writes text. A model that is not in `texts` is assumed to write
    text.
    """
    return profile.get("status") == _ACTIVE and texts.get(_model(profile), True)


def _identity(profile: Mapping[str, Any]) -> frozenset[str]:
    """Return the ARNs of the profile's foundation model, one ARN for each region that the profile uses."""
    arns = (lenient.mapping(model).get("modelArn") for model in lenient.sequence(profile.get("models")))
    return frozenset(filter(None, map(lenient.text, arns)))


def _model(profile: Mapping[str, Any]) -> str:
    """Return the id of the profile's foundation model, from the end of the model's ARN. Return "" if the profile has no
    ARN of a model.
    """
    return min(_identity(profile), default="").rpartition("/")[2]


def _words(model: Mapping[str, Any], name: str) -> list[Any]:
    return lenient.sequence(model.get(name))
