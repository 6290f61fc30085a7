"""Tests of the advice that the gateway adds to Bedrock's errors about unavailable models.

The advice names the region, the prefix or the permission that is missing.
"""

import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import INVALID_REQUEST, Problem
from gateway.contract.flag import OfferedModel, Target
from gateway_plugins.dialects.bedrock.availability import MAX_NAMED, advice
from tests.helpers.gateway import HAIKU, NOVA, SONNET

BASE = "anthropic.claude-haiku-4-5-20251001-v1:0"
VIRGINIA = "bedrock-runtime.us-east-1.amazonaws.com"
IRELAND = "bedrock-runtime.eu-west-1.amazonaws.com"
ON_DEMAND = (
    f"Invocation of model ID {BASE} with on-demand throughput isn\u2019t supported. Retry your request with the ID or ARN "
    "of an inference profile that contains this model."
)
INVALID = "The provided model identifier is invalid."
UNRESOLVED = "Could not resolve the foundation model from the provided model identifier."
NO_ACCESS = "You don't have access to the model with the specified model ID."
MARKETPLACE = (
    "Model access is denied due to IAM user or service role is not authorized to perform the required AWS Marketplace "
    "actions (aws-marketplace:ViewSubscriptions, aws-marketplace:Subscribe) to enable access to this model."
)
USE_CASE = (
    "Model use case details have not been submitted for this account. Fill out the Anthropic use case details form "
    "before using the model."
)
DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/gw/i is not authorized to perform: bedrock:InvokeModel on resource: "
    f"arn:aws:bedrock:us-east-2::foundation-model/{BASE} because no identity-based policy allows the action"
)
LEGACY = (
    "Access denied. This Model is marked by provider as Legacy and you have not been actively using the model in the "
    "last 30 days. Please upgrade to an active model on Amazon Bedrock"
)
ENDED = "This model version has reached the end of its life. Please refer to the AWS documentation for more details."


def told(message, model=BASE, host=VIRGINIA, offers=(), base=""):
    problem = Problem(INVALID_REQUEST, message, native="ValidationException", status=400)
    target = Target("b", "bedrock_converse", model, "bedrock_converse", capabilities(model), base=base, host=host)
    return advice(problem, target, iter(offers))


def offered(provider, model, host=VIRGINIA, base=""):
    return OfferedModel(provider, model, base or model, host)


def test_a_model_that_needs_a_profile_gets_the_profiles_of_its_region():
    assert told(ON_DEMAND) == (
        f"inference profiles of the model in us-east-1 are called us.{BASE} or global.{BASE}, as far as AWS has them"
    )


@pytest.mark.parametrize(
    ("region", "prefixes"),
    [
        ("us-west-2", "us global"),
        ("us-gov-west-1", "us-gov"),
        ("eu-central-1", "eu global"),
        ("ap-northeast-1", "jp apac global"),
        ("ap-southeast-2", "au apac global"),
        ("ap-southeast-1", "apac global"),
        ("ap-south-1", "in apac global"),
        ("ca-central-1", "ca global"),
        ("sa-east-1", "us eu global"),
    ],
)
def test_the_prefixes_are_those_of_the_region(region, prefixes):
    names = " or ".join(f"{prefix}.{BASE}" for prefix in prefixes.split())
    assert f"in {region} are called {names}, as far" in told(ON_DEMAND, host=f"bedrock-runtime.{region}.amazonaws.com")


def test_a_prefix_that_is_not_known_is_not_called_wrong():
    model, host = f"amer.{BASE}", "bedrock-runtime.ca-central-1.amazonaws.com"
    assert told(ON_DEMAND, model, host).startswith("inference profiles of the model in ca-central-1 are called ca.")
    assert told("The provided model identifier is invalid.", model, host).startswith("there is no model of this name")


def test_a_host_without_a_region_names_the_provider():
    assert told(ON_DEMAND, host="proxy.example").startswith('inference profiles of the model in the region of "b" are')


@pytest.mark.parametrize("message", [INVALID, UNRESOLVED])
def test_a_prefix_of_another_region_is_told(message):
    assert told(message, model=f"eu.{BASE}") == (
        '"eu." is no prefix for us-east-1, where inference profiles begin with us. or global.'
    )


@pytest.mark.parametrize("model", [BASE, f"us.{BASE}", "anthropic.claude-haiku-4-5"])
def test_an_unknown_name_says_who_lists_the_right_ones(model):
    assert told(INVALID, model=model) == (
        "there is no model of this name in us-east-1; its names are listed by aws bedrock list-inference-profiles "
        "--region us-east-1 and aws bedrock list-foundation-models --region us-east-1"
    )


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            NO_ACCESS,
            'the AWS account of "b" has no access to the model in us-east-1; its administrator gets it in the ',
        ),
        (
            MARKETPLACE,
            'the AWS account of "b" has no access to the model in us-east-1; its administrator gets it in the ',
        ),
        (
            USE_CASE,
            'the administrator of the AWS account of "b" submits the use case details for Anthropic\'s models in',
        ),
        (DENIED, 'the credentials of "b" need this permission on the model; for an inference profile, on the profile '),
        (LEGACY, 'AWS no longer serves this model to the account of "b"; use a newer one'),
        (ENDED, 'AWS no longer serves this model to the account of "b"; use a newer one'),
    ],
)
def test_each_message_has_its_advice(message, words):
    assert told(message, model=HAIKU).startswith(words)


@pytest.mark.parametrize("message", [ON_DEMAND, INVALID, NO_ACCESS, DENIED, LEGACY])
def test_the_callers_other_names_of_the_model_are_told(message):
    offers = [
        offered("b", HAIKU), offered("b-eu", f"eu.{BASE}", IRELAND), offered("b", SONNET),
        offered("direct", "claude-haiku-4-5", "api.anthropic.com"),
        offered("team", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x", "proxy", HAIKU),
    ]  # fmt: skip
    assert told(message, offers=offers).endswith(
        f'; this gateway has the model as "b/{HAIKU}" (us-east-1), "b-eu/eu.{BASE}" (eu-west-1), '
        '"team/arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x"'
    )


def test_an_arn_is_advised_by_the_model_behind_it():
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x"
    assert f'; this gateway has the model as "b/{HAIKU}" (us-east-1)' in told(
        NO_ACCESS, arn, base=HAIKU, offers=[offered("b", HAIKU)]
    )


def test_a_few_names_are_enough():
    offers = [offered(f"p{number}", HAIKU) for number in range(50)]
    assert told(INVALID, offers=offers).count(HAIKU) == MAX_NAMED


@pytest.mark.parametrize(
    "message",
    [
        "messages.0.content: Field required",
        "Too many requests, please wait before trying again.",
        "You invoked an unsupported model or your request did not allow prompt caching.",
        "Input is too long for requested model",
        "",
    ],
)
def test_other_errors_get_no_advice_and_read_no_offers(message):
    def offers():
        raise AssertionError("the offers were read")
        yield

    problem = Problem(INVALID_REQUEST, message, status=400)
    assert (
        advice(problem, Target("b", "bedrock_converse", NOVA, "bedrock_converse", capabilities(NOVA)), offers()) == ""
    )
