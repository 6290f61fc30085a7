"""Tests of counting tokens at Bedrock: the request inside a CountTokens body, and the requests that are sent to
Bedrock.

If a model refuses CountTokens, other ways to count are tried in a fixed order.
"""

import base64
import json

import pytest

from gateway.contract.billing import common_parts
from gateway.contract.capabilities import capabilities
from gateway.contract.errors import Refused, UpstreamFailed
from gateway.contract.flag import (
    COUNT_TOKENS,
    OPAQUE,
    ClientRequest,
    HttpRequest,
    Members,
    Route,
    StepResponse,
    Target,
)
from gateway_plugins import anthropic_messages, bedrock_model_invoke
from gateway_plugins.dialects.bedrock import counting

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
BODY = {"model": HAIKU, "messages": [{"role": "user", "content": "hi"}]}
PROFILE_ONLY = "Invocation of model ID x with on-demand throughput isn't supported."


def ask(body=BODY, client="anthropic_messages", dialect="anthropic_messages"):
    return ClientRequest(
        client, dialect, COUNT_TOKENS, "POST", "/", "", {}, Members(json.dumps(body).encode()), HAIKU, False
    )


def target(model=HAIKU, base=""):
    caps = capabilities(base or model)
    return Target("b", "bedrock_model_invoke", model, "anthropic_messages", caps, base=base)


def refusal(message, name="ValidationException", status=400):
    return StepResponse(status, {"x-amzn-errortype": name}, json.dumps({"message": message}).encode())


def run(replies, the_ask=None, place=None):
    """Run the plugin's generator for a CountTokens request. Its requests to the provider are answered with the
    `replies`, in order.

    Return the paths of these requests, and the reply to the client.
    """
    steps = counting.steps(the_ask or ask(), place or target(), print, common_parts)
    paths = [next(steps).path]
    *others, last = replies
    paths += [steps.send(reply).path for reply in others]
    with pytest.raises(StopIteration) as end:
        steps.send(last)
    return paths, end.value.value


BASE = "/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/count-tokens"
OTHER = "/anthropic/v1/messages/count_tokens"


def test_the_base_id_is_asked_and_its_answer_is_the_reply():
    paths, reply = run([StepResponse(200, {"x-amzn-requestid": "r", "date": "d"}, b'{"inputTokens":9}')])
    assert (paths, reply.body) == ([BASE], b'{"inputTokens":9}')
    assert reply.headers == {"content-type": "application/json", "x-amzn-requestid": "r"}


def test_the_model_behind_an_arn_is_asked():
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"
    assert run([StepResponse(200, {}, b'{"inputTokens":9}')], place=target(arn, HAIKU))[0] == [BASE]


@pytest.mark.parametrize(
    "refused",
    [
        refusal(PROFILE_ONLY),
        refusal("The provided model doesn't support counting tokens."),
        refusal("The provided model identifier is invalid."),
        refusal("no such model", "ResourceNotFoundException", 404),
    ],
)
def test_a_model_bedrock_cannot_count_uses_its_messages_api(refused):
    """Check that Bedrock's Messages API counts the tokens for a model that CountTokens does not accept."""
    paths, reply = run([refused, StepResponse(200, {}, b'{"input_tokens":7}')])
    assert (paths, json.loads(reply.body)) == ([BASE, OTHER], {"inputTokens": 7})
    assert "x-irisgate-estimated" not in reply.headers


@pytest.mark.parametrize(
    "other",
    [
        StepResponse(404, {}, b"{}"),
        StepResponse(
            200, {}, b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'
        ),
        StepResponse(200, {}, b"<html>"),
    ],
)
def test_a_model_that_nobody_counts_is_estimated_and_the_reply_says_so(other):
    paths, reply = run([refusal(PROFILE_ONLY), other])
    assert paths == [BASE, OTHER]
    assert reply.headers["x-irisgate-estimated"] == "true"
    assert json.loads(reply.body)["inputTokens"] > 0


def test_a_converse_request_has_no_other_endpoint():
    the_ask = ask({"messages": []}, "bedrock_model_invoke", counting.CONVERSE)
    paths, reply = run([refusal(PROFILE_ONLY)], the_ask)
    assert (len(paths), reply.headers["x-irisgate-estimated"]) == (1, "true")


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (refusal("messages: at least one message is required"), 400),
        (refusal("Authentication failed", "AccessDeniedException", 403), 403),
        (refusal("Too many requests", "ThrottlingException", 429), 429),
    ],
)
def test_any_other_error_is_the_clients_to_see(refused, status):
    steps = counting.steps(ask(), target(), print, common_parts)
    next(steps)
    with pytest.raises(UpstreamFailed) as failed:
        steps.send(refused)
    assert (failed.value.status, failed.value.raw) == (status, refused.body)


def test_the_other_endpoint_gets_what_it_counts_and_nothing_else():
    steps = counting.steps(ask({**BODY, "max_tokens": 5, "stream": True, "system": "s"}), target(), print, common_parts)
    next(steps)
    send = steps.send(refusal(PROFILE_ONLY))
    base = "anthropic.claude-haiku-4-5-20251001-v1:0"
    assert json.loads(send.body) == {**BODY, "model": base, "system": "s"}


def parsed(given):
    route = Route("POST", "/model/{model:.+}/count-tokens", COUNT_TOKENS)
    body = json.dumps(given).encode()
    return bedrock_model_invoke.parse(HttpRequest(route, "/", "", {}, {"model": HAIKU}, body))


def wrapped(inner):
    return {"input": {"invokeModel": {"body": base64.b64encode(json.dumps(inner).encode()).decode()}}}


CLAUDES = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
CONVERSES = {"messages": [{"role": "user", "content": [{"text": "a"}]}], "system": [{"text": "s"}]}


@pytest.mark.parametrize(
    ("given", "dialect", "inner"),
    [
        (wrapped(CLAUDES), "anthropic_messages", CLAUDES),
        ({"input": {"converse": CONVERSES}}, "bedrock_converse", CONVERSES),
        (wrapped({"inputText": "a"}), OPAQUE, {"input": {"invokeModel": {"body": {"inputText": "a"}}}}),
        ({"input": {"invokeModel": {"body": 3}}}, OPAQUE, {"input": {"invokeModel": {"body": 3}}}),
        ({"input": 3}, OPAQUE, {"input": 3}),
        ({}, OPAQUE, {}),
    ],
)
def test_the_inner_request_is_read_and_sent_wrapped_as_it_came(given, dialect, inner):
    """Check that the gateway reads the request inside a CountTokens body, and that Bedrock gets the body unchanged."""
    request = parsed(given)
    assert (request.dialect, json.loads(request.top.body), request.model) == (dialect, inner, HAIKU)
    assert json.loads(counting.count_request(request, target(), pytest.fail).body) == given


@pytest.mark.parametrize("body", ["%", "eyJ9", "W10=", "Zm9v", "eyJhIjoxfQ==\n", "\ud83d"])
def test_a_body_that_filters_cannot_read_is_refused(body):
    with pytest.raises(Refused, match="must be the base64 of a JSON object"):
        parsed({"input": {"invokeModel": {"body": body}}})


def test_anthropic_gets_only_what_its_counting_takes():
    """Check that Anthropic gets only those fields of a Bedrock client's request that its token counting accepts."""
    send = anthropic_messages.build(
        parsed(wrapped(CLAUDES)), Target("a", "anthropic_messages", "m", "", capabilities("m")), print
    )
    assert send.path == "/v1/messages/count_tokens"
    assert json.loads(send.body) == {"model": "m", "messages": CLAUDES["messages"]}


def test_a_whole_converse_request_is_counted_by_the_members_that_count():
    the_ask = ask({**CONVERSES, "inferenceConfig": {"maxTokens": 5}}, "anthropic_messages", counting.CONVERSE)
    assert json.loads(counting.count_request(the_ask, target(), print).body) == {"input": {"converse": CONVERSES}}


@pytest.mark.parametrize(
    ("reported", "tokens"),
    [("12", 12), ("12.0", 12), ('"12"', 12), ("-5", 0), ("1e300", 0), ("1.5", 0), ("18446744073709551616", 0)],
)
def test_a_count_that_is_not_plausible_is_not_shown(reported, tokens):
    assert counting.neutral_count(b'{"inputTokens": %b}' % reported.encode()) == {"input_tokens": tokens}
