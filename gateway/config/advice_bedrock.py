"""Warnings about providers at Amazon Bedrock: wrong URLs, models of another region, and ARNs that do not name a model.

The service and the region are parsed from the host's name. Nothing is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from gateway.config.document.hujson import Path
from gateway.config.findings import Report
from gateway.config.model import Provider
from gateway.contract.aws_domains import AWS_DOMAIN
from gateway.contract.capabilities import geo
from gateway.money.prices.table import Prices

_HOST: Final = re.compile(rf"(?P<service>bedrock[a-z-]*)\.(?P<region>[a-z0-9-]+)\.(?P<domain>{AWS_DOMAIN})")
"""Pattern for the hosts of Bedrock's endpoints."""
_SERVING: Final = ("bedrock-runtime", "bedrock-runtime-fips", "bedrock-mantle")
_WITH_METADATA: Final = frozenset({"bedrock_converse", "bedrock_model_invoke"})
"""The APIs (compatibility flags) whose requests may carry metadata (`request_metadata`)."""
_REGION: Final = re.compile(
    r"(us|us-gov|eu|eusc|ap|sa|ca|me|af|il|mx|cn|us-iso[a-z]?|eu-iso[a-z]?)(-[a-z]{2})?"
    r"-(north|south|east|west|central|northeast|northwest|southeast|southwest)-[0-9]"
)
"""Pattern for the names of AWS's regions. A list of names would lack regions that AWS adds later."""
_NEAR: Final = (
    "us-east-1", "us-east-2", "us-west-1", "us-west-2", "us-gov-west-1", "us-gov-east-1", "ca-central-1", "sa-east-1",
    "eu-west-1", "eu-west-2", "eu-west-3", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2",
    "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2", "ap-southeast-1",
    "ap-southeast-2",
)  # fmt: skip
"""Regions that the warning about a misspelt region may suggest."""
_GEOS: Final[Mapping[str, frozenset[str]]] = {
    "us": frozenset({"us", "us-gov"}),
    "eu": frozenset({"eu"}),
    "ap": frozenset({"apac", "jp", "au", "in"}),
}
"""Maps the first part of a region's name to the prefixes of model ids that fit the region.

For example, a model with the prefix `eu.` fits the region `eu-west-1`. If a region's first part is not a key of this
mapping, the models in this region are not checked.
"""
_LOCAL: Final = frozenset().union(*_GEOS.values())


def advise_bedrock(provider: Provider, prices: Prices, report: Report) -> None:
    path: Path = ("providers", provider.id)
    _opaque_models(provider, prices, report)
    if provider.request_metadata and not _WITH_METADATA & {*provider.flags}:
        flags = " and ".join(sorted(_WITH_METADATA))
        report.warn((*path, "request_metadata"), f"is sent with {flags} only; it has no effect")
    url = urlsplit(provider.baseurl)
    host = _HOST.fullmatch(url.hostname or "")
    if host is None:
        return
    region = host["region"]
    if host["service"] not in _SERVING:
        meant = f"https://bedrock-runtime.{region}.{host['domain']}"
        report.warn((*path, "baseurl"), f'"{host["service"]}" is an API that serves no model; write {meant}')
    elif not _REGION.fullmatch(region):
        report.warn((*path, "baseurl"), f'"{region}" is no region of AWS{report.hint(region, _NEAR)}')
    else:
        _models_of_elsewhere(provider, region, report)
        _prices_of_elsewhere(provider, region, prices, report)


def _models_of_elsewhere(provider: Provider, region: str, report: Report) -> None:
    fitting = _GEOS.get(region.partition("-")[0])
    for index, model in enumerate(provider.models):
        prefix = geo(model)
        if fitting and prefix in _LOCAL and prefix not in fitting:
            place = ("providers", provider.id, "models", index)
            report.warn(place, f'"{prefix}." is no prefix for the region {region}; models there begin with others')
            return


def _prices_of_elsewhere(provider: Provider, region: str, prices: Prices, report: Report) -> None:
    """Warn if calls to AWS GovCloud are priced by a list of other regions, whose prices are lower.

    Only models without a region prefix are concerned, because a prefix decides the price.
    """
    if provider.cost_basis not in {"bedrock", "bedrock-us"} or not region.startswith("us-gov-"):
        return
    for model in provider.models:
        if not geo(model) and not model.startswith("arn:") and prices.of(provider, model) is not None:
            message = f'has no prices of {region}, which "{model}" needs; write "bedrock-us-gov"'
            report.warn(("providers", provider.id, "cost_basis"), message)
            return


def _opaque_models(provider: Provider, prices: Prices, report: Report) -> None:
    for index, model in enumerate(provider.models):
        if model.startswith("arn:") and model not in provider.base_models and prices.of(provider, model) is None:
            message = 'the ARN says neither price nor abilities; write "base_models": {"ARN": "the model behind it"}'
            report.warn(("providers", provider.id, "models", index), message)
