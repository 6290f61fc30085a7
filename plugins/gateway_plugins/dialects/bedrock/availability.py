"""Completes Bedrock's errors about an unavailable model with advice, such as the names by which it can be called.

- Bedrock serves a model in some regions only. Most models are called by an inference profile, whose id is the model's
  id with a region prefix, such as `us.anthropic.claude-…`. For some models, the account must first request access.
- Bedrock's messages say neither which prefix is right nor in which regions the account has the model.
- One exception of Bedrock has many causes. So the text of the message decides which advice fits.

Sources of the messages: juspay/neurolink#1380 and logancyang/obsidian-copilot#2472 (on-demand throughput); recorded
traffic (invalid identifier); langgenius/dify#2829, aws-samples/anthropic-on-aws#252 and awslabs/llmeter#35 (access, AWS
Marketplace, legacy models).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from gateway.contract.capabilities import GEOS, base_id, geo
from gateway.contract.errors import Problem
from gateway.contract.flag import OfferedModel, Target

MAX_NAMED: Final = 5
"""Maximum number of other names for the model that an error message lists."""
_REGION: Final = re.compile(r"(?:^|\.)(?P<region>[a-z]{2,4}(?:-[a-z]+)+-[0-9])\.")
"""Pattern for the region in a host of AWS."""
_PREFIXES: Final = (
    # beginning of a region's name: prefixes of inference profiles that can be called there
    ("us-gov-", ("us-gov",)),
    ("us-", ("us", "global")),
    ("eu-", ("eu", "global")),
    ("ap-northeast-1", ("jp", "apac", "global")),
    ("ap-northeast-3", ("jp", "apac", "global")),
    ("ap-southeast-2", ("au", "apac", "global")),
    ("ap-southeast-4", ("au", "apac", "global")),
    ("ap-south-", ("in", "apac", "global")),
    ("ap-", ("apac", "global")),
    ("ca-", ("ca", "global")),
)
"""Prefixes of inference profiles by the beginning of a region's name. The first entry that fits a region is used.

Not every model has profiles with all prefixes of a region.
"""


class _Place(NamedTuple):
    """A model that could not be called, and where the gateway tried to call it."""

    model: str
    """The model's id or ARN."""
    provider: str
    region: str
    """The region in the host's name. It is "" if the host, such as a proxy, names none."""
    others: Sequence[OfferedModel]
    """The same model at other providers, or under other names."""

    @property
    def where(self) -> str:
        return self.region or f'the region of "{self.provider}"'


def advice(problem: Problem, target: Target, offers: Iterable[OfferedModel]) -> str:
    """Return a text that tells the user how to reach the model, or "" if the error has another cause.

    `problem` is Bedrock's error. `offers` are all models that the gateway offers.
    """
    advise = next((advise for pattern, advise in _ADVICE if pattern.search(problem.message)), None)
    if advise is None:
        return ""
    model = target.base or target.model
    found = _REGION.search(target.host)
    others = [offer for offer in offers if base_id(offer.base) == base_id(model)]
    place = _Place(model, target.provider, "" if found is None else found["region"], others)
    return "; ".join(filter(None, [advise(place), _elsewhere(place)]))


def _profile(place: _Place) -> str:
    """Return advice for a model that can be called only through an inference profile. The advice names the profiles."""
    prefixes = _prefixes(place.region) or ("us", "eu", "global")
    names = " or ".join(f"{prefix}.{base_id(place.model)}" for prefix in prefixes)
    given = geo(place.model)
    if given in GEOS and given not in prefixes:
        return _misplaced(given, place.region, prefixes)
    return f"inference profiles of the model in {place.where} are called {names}, as far as AWS has them"


def _unknown(place: _Place) -> str:
    """Return advice for an unknown model name: the right prefix, or the AWS commands that list the models' names."""
    prefixes, given = _prefixes(place.region), geo(place.model)
    if prefixes and given in GEOS and given not in prefixes:
        return _misplaced(given, place.region, prefixes)
    option = f" --region {place.region}" if place.region else ""
    return (
        f"there is no model of this name in {place.where}; its names are listed by "
        f"aws bedrock list-inference-profiles{option} and aws bedrock list-foundation-models{option}"
    )


def _misplaced(given: str, region: str, prefixes: Sequence[str]) -> str:
    right = " or ".join(f"{prefix}." for prefix in prefixes)
    return f'"{given}." is no prefix for {region}, where inference profiles begin with {right}'


def _access(place: _Place) -> str:
    return (
        f'the AWS account of "{place.provider}" has no access to the model in {place.where}; its administrator gets it '
        "in the model catalog of the Bedrock console (models of AWS Marketplace need a first call by a principal with "
        "aws-marketplace:Subscribe)"
    )


def _use_case(place: _Place) -> str:
    return (
        f'the administrator of the AWS account of "{place.provider}" submits the use case details for Anthropic\'s '
        "models in the model catalog of the Bedrock console"
    )


def _permission(place: _Place) -> str:
    return (
        f'the credentials of "{place.provider}" need this permission on the model; for an inference profile, on the '
        "profile and on the model in each region of the profile"
    )


def _retired(place: _Place) -> str:
    return f'AWS no longer serves this model to the account of "{place.provider}"; use a newer one'


_ADVICE: Final[tuple[tuple[re.Pattern[str], Callable[[_Place], str]], ...]] = (
    # words of Bedrock's message: function that makes the advice
    (re.compile(r"on-demand throughput isn.t supported|on-demand throughput is not supported"), _profile),
    (re.compile(r"use case details have not been submitted"), _use_case),
    (re.compile(r"end of its life|marked by provider as Legacy"), _retired),
    (
        re.compile(r"have access to the model|Model access is denied|not authorized to perform: aws-marketplace:"),
        _access,
    ),
    (re.compile(r"not authorized to perform: bedrock:Invoke"), _permission),
    (re.compile(r"model identifier is invalid|Could not resolve the foundation model"), _unknown),
)


def _prefixes(region: str) -> tuple[str, ...]:
    """Return the prefixes of the inference profiles in a region, or () for an unknown region."""
    return next((prefixes for beginning, prefixes in _PREFIXES if region.startswith(beginning)), ())


def _elsewhere(place: _Place) -> str:
    """Return a text with the names under which this gateway offers the same model, or "" if there are none."""
    if not place.others:
        return ""
    names = [f'"{offer.provider}/{offer.model}"{_in_region(offer)}' for offer in place.others[:MAX_NAMED]]
    return f"this gateway has the model as {', '.join(names)}"


def _in_region(offer: OfferedModel) -> str:
    found = _REGION.search(offer.host)
    return "" if found is None else f" ({found['region']})"
