"""Tests of the search for Amazon Bedrock's models: the host and the requests, and the models that the gateway then
offers.
"""

import json
from urllib.parse import parse_qs

import pytest

from gateway.contract.errors import BadFrame
from gateway.contract.flag import DiscoveredModel, StepResponse
from gateway_plugins.dialects.bedrock.model_search import discover_models

LITE = "amazon.nova-lite-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"


def foundation(model, region="us-east-1"):
    return f"arn:aws:bedrock:{region}::foundation-model/{model}"


def summary(model, *, output=("TEXT",), inference=("ON_DEMAND",)):
    return {"modelId": model, "outputModalities": [*output], "inferenceTypesSupported": [*inference]}


def profile(id_, *arns, **more):
    models = [{"modelArn": arn} for arn in arns]
    return {"inferenceProfileId": id_, "inferenceProfileArn": id_, "models": models, "status": "ACTIVE", **more}


def searched(models, system=(), applications=()):
    """Return the models that `discover_models` finds if Bedrock lists the models and inference profiles in the
    arguments.
    """
    replies = iter(
        [{"modelSummaries": models}, *({"inferenceProfileSummaries": [*each]} for each in (system, applications))]
    )
    pages = discover_models("").pages
    next(pages)
    try:
        while True:
            pages.send(StepResponse(200, {}, json.dumps(next(replies)).encode()))
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize(
    ("host", "subdomain"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "bedrock-fips"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock"),
        ("bedrock-runtime.eu-west-1.api.aws", "bedrock"),
        ("bedrock-runtime.eusc-de-east-1.amazonaws.eu", "bedrock"),
        ("bedrock-runtime.eusc-de-east-1.api.amazonwebservices.eu", "bedrock"),
        ("bedrock-runtime.cn-north-1.api.amazonwebservices.com.cn", "bedrock"),
        ("bedrock-mantle.us-east-1.api.aws", ""),
        ("vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", ""),
        ("bedrock-runtime.example.com", ""),
        ("bedrock-runtime.us-east-1.amazonaws.com.example.com", ""),
        ("bedrock-runtime.us-east-1.amazonawsxcom", ""),
        ("bedrock-runtime", ""),
        ("127.0.0.1", ""),
    ],
)
def test_the_control_plane_of_the_region_is_asked(host, subdomain):
    assert discover_models(host).subdomain == subdomain


def test_both_types_of_profiles_are_asked_for_page_by_page():
    pages = discover_models("").pages
    replies = (
        b'{"modelSummaries": []}',
        b'{"inferenceProfileSummaries": [], "nextToken": "a&b"}',
        b'{"inferenceProfileSummaries": []}',
    )
    asked = [next(pages), *(pages.send(StepResponse(200, {}, reply)) for reply in replies)]
    assert [(request.method, request.path) for request in asked] == [
        ("GET", "/foundation-models"), *[("GET", "/inference-profiles")] * 3,
    ]  # fmt: skip
    assert [parse_qs(request.query) for request in asked[1:]] == [
        {"maxResults": ["1000"], "type": ["SYSTEM_DEFINED"]},
        {"maxResults": ["1000"], "nextToken": ["a&b"], "type": ["SYSTEM_DEFINED"]},
        {"maxResults": ["1000"], "type": ["APPLICATION"]},
    ]


def test_models_with_text_on_demand_are_offered():
    models = [
        summary(LITE),
        summary("amazon.nova-premier-v1:0", inference=["INFERENCE_PROFILE"]),
        summary("amazon.nova-lite-v1:0:24k", inference=["PROVISIONED"]),
        summary("amazon.nova-canvas-v1:0", output=["IMAGE"]),
        summary("amazon.titan-embed-text-v2:0", output=["EMBEDDING"]),
    ]
    assert searched(models) == [DiscoveredModel(LITE)]


def test_active_profiles_of_text_models_are_offered():
    system = [
        profile(f"us.{LITE}", foundation(LITE)),
        profile("us.stability.x", foundation("stability.x")),
        profile("us.new.model", foundation("new.model")),
        profile("us.old.model", foundation("old.model"), status="CREATING"),
    ]
    found = searched([summary(LITE), summary("stability.x", output=["IMAGE"])], system)
    assert [model.name for model in found] == [LITE, f"us.{LITE}", "us.new.model"]


@pytest.mark.parametrize(
    ("regions", "base"),
    [
        (("us-east-1",), LITE),
        (("us-east-1", "us-west-2"), f"us.{LITE}"),
        (("us-west-2", "us-east-1"), f"us.{LITE}"),
        (("us-east-1", ""), f"global.{LITE}"),
        (("eu-west-1", "eu-west-3"), LITE),
        ((), ""),
    ],
)
def test_an_application_profile_is_based_on_the_profile_with_its_models(regions, base):
    system = [
        profile(f"us.{LITE}", foundation(LITE, "us-east-1"), foundation(LITE, "us-west-2")),
        profile(f"global.{LITE}", foundation(LITE, ""), foundation(LITE, "us-east-1")),
    ]
    own = profile(ARN, *[foundation(LITE, region) for region in regions])
    assert searched([summary(LITE)], system, [own])[-1] == DiscoveredModel(ARN, base)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"modelSummaries": {}}', b'{"modelSummaries": ["m"]}'])
def test_a_reply_without_the_list_is_bad(body):
    pages = discover_models("").pages
    next(pages)
    with pytest.raises(BadFrame):
        pages.send(StepResponse(200, {}, body))
