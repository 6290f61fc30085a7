"""Tests that the gateway does not have defects that other gateways have around Bedrock: in streams, counts, ids, betas.

The number of a defect is in the names of its tests: `defect_NN`.
"""

import base64
import json

import pytest

from gateway.config.load import loads
from gateway.contract.capabilities import capabilities
from gateway.contract.errors import NOT_FOUND, Truncated, UpstreamFailed
from gateway.contract.flag import COUNT_TOKENS, ClientRequest, Head, Members, Target
from gateway.contract.framing import eventstream
from gateway.upstream.catalog import Catalog
from gateway_plugins import anthropic_messages, bedrock_converse, bedrock_model_invoke
from gateway_plugins.dialects.bedrock import counting, invoke_headers, runtime_api
from gateway_plugins.dialects.bedrock_converse.options import response_fields
from tests.config.examples import config

CLAUDE = capabilities("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
ARN = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"
START = {
    "type": "message_start",
    "message": {"usage": {"input_tokens": 7, "output_tokens": 1, "cache_read_input_tokens": 30}},
}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STOP = {
    "type": "message_stop",
    "amazon-bedrock-invocationMetrics": {"inputTokenCount": 7, "outputTokenCount": 9, "cacheWriteInputTokenCount": 5},
}


def ask(body, client="anthropic_messages", operation="generate", **headers):
    top = Members(json.dumps(body).encode())
    return ClientRequest(client, "anthropic_messages", operation, "POST", "/", "", headers, top, "m", True)


def target(flag, model="m"):
    return Target("b", flag.__name__.rpartition(".")[2], model, "anthropic_messages", CLAUDE)


def frame(kind, data, message_type="event"):
    name = ":event-type" if message_type == "event" else ":exception-type"
    headers = {name: kind, ":content-type": "application/json", ":message-type": message_type}
    return eventstream.encode(headers, json.dumps(data).encode())


def chunk(data):
    return frame("chunk", {"bytes": base64.b64encode(json.dumps(data).encode()).decode()})


def events(*frames):
    decoder = bedrock_model_invoke.decoder(ask({}), target(bedrock_model_invoke), Head(200, {}))
    return [event for data in frames for event in decoder.feed(data)] + list(decoder.close())


def facts():
    meter = bedrock_model_invoke.meter(ask({}), target(bedrock_model_invoke), Head(200, {}))
    for event in events(chunk(START), chunk(DELTA), chunk(STOP)):
        meter.feed(event)
    return meter.facts()


def test_defect_38_a_stream_that_ends_without_its_last_event_is_an_error():
    with pytest.raises(Truncated):
        events(chunk(START), chunk(DELTA))
    decoder = bedrock_converse.decoder(ask({}), target(bedrock_converse), Head(200, {}))
    list(decoder.feed(frame("messageStart", {"role": "assistant"})))
    with pytest.raises(Truncated):
        list(decoder.close())


@pytest.mark.parametrize(
    ("name", "status", "retryable"),
    [
        ("throttlingException", 429, True),
        ("serviceUnavailableException", 503, True),
        ("internalServerException", 500, True),
        ("modelStreamErrorException", 424, True),
        ("modelTimeoutException", 408, True),
        ("validationException", 400, False),
    ],
)
def test_defect_39_a_stream_exception_has_its_status_and_retry(name, status, retryable):
    """Check that an exception in a stream is reported with the status for its name, and that the error says whether a
    retry is useful.
    """
    with pytest.raises(UpstreamFailed) as failed:
        events(frame(name, {"message": "m"}, "exception"))
    assert (failed.value.problem.status, failed.value.problem.retryable) == (status, retryable)


def test_defect_40_cache_tokens_survive_partial_bedrock_metrics():
    """Check that cache tokens are not lost if Bedrock's metrics lack some kinds of tokens."""
    assert (facts().usage.cache_read, facts().usage.cache_write_5m) == (30, 5)


def test_defect_42_the_last_delta_has_input_and_cache_counts():
    """Check that the last delta of a message has the counts of the input and of the cache."""
    (delta,) = [event for event in events(chunk(START), chunk(DELTA), chunk(STOP)) if event.kind == "message_delta"]
    usage = delta.data["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (7, 30, 5)


def test_defect_43_counts_of_the_first_and_the_last_event_are_not_summed():
    assert facts().usage.output == 9


def test_defect_47_unknown_betas_stay_out_and_tools_are_hoisted():
    """Check a request of Claude Code to InvokeModel: betas that Bedrock does not know are left out.

    Claude Code puts the fields of a tool into an object `custom`. Bedrock gets them in the tool itself.
    """
    tool = {"custom": {"name": "f", "defer_loading": True, "input_schema": {"type": "object"}}}
    header = {"anthropic-beta": "claude-code-20250219,tool-search-tool-2025-10-19"}
    the_ask = ask({"max_tokens": 1, "messages": [], "tools": [tool]}, **header)
    body = json.loads(bedrock_model_invoke.build(the_ask, target(bedrock_model_invoke), print).body)
    assert body["anthropic_beta"] == ["tool-search-tool-2025-10-19"]
    assert body["tools"] == [tool["custom"]]


def test_defect_53_an_arns_slash_is_escaped_and_false_200s_fail():
    """Check that the slash of an ARN is escaped in a path, and that Bedrock's 200 for a wrong path is an error."""
    send = bedrock_model_invoke.build(ask({"max_tokens": 1}), target(bedrock_model_invoke, ARN), print)
    assert send.path.count("/") == 3
    body = b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'
    assert runtime_api.problem_for(Head(200, {}), body).code == NOT_FOUND


def test_defect_54_a_profile_has_its_named_models_abilities():
    """Check that an application inference profile has the capabilities of the model that the configuration names for
    it.
    """
    loaded = loads(config({"models": [ARN], "base_models": {ARN: "us.anthropic.claude-opus-5"}}))
    (offer,) = Catalog(loaded.config).offers
    assert offer.caps == capabilities("us.anthropic.claude-opus-5")


def test_defect_55_tokens_are_counted_by_the_base_id():
    """Check that a CountTokens request names the model by its base id, because CountTokens refuses inference profiles."""
    place = target(bedrock_model_invoke, "us.anthropic.claude-haiku-4-5-20251001-v1:0")
    send = counting.count_request(ask({"messages": []}, operation=COUNT_TOKENS), place, print)
    assert send.path == "/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/count-tokens"


@pytest.mark.parametrize("flag", [anthropic_messages, bedrock_model_invoke, bedrock_converse])
def test_defect_57_a_clients_credential_is_not_forwarded(flag):
    """Check that the provider's request does not have the client's credential in its headers."""
    the_ask = ask({"max_tokens": 1, "messages": []}, authorization="Bearer sk-ant-oat", **{"x-api-key": "k"})
    sent = flag.build(the_ask, target(flag), print).headers
    assert {"authorization", "x-api-key"}.isdisjoint(sent)


def test_defect_62_a_guardrail_is_a_header_or_a_member():
    """Check that the guardrail headers of an InvokeModel client are sent unchanged to InvokeModel.

    For Converse, they become the field `guardrailConfig`.
    """
    given = {"x-amzn-bedrock-guardrailidentifier": "g", "x-amzn-bedrock-guardrailversion": "2"}
    the_ask = ask({"anthropic_version": "bedrock-2023-05-31"}, "bedrock_model_invoke", **given)
    assert given.items() <= bedrock_model_invoke.build(the_ask, target(bedrock_model_invoke), print).headers.items()
    send = bedrock_converse.build(the_ask, target(bedrock_converse), print)
    assert json.loads(send.body)["guardrailConfig"] == {"guardrailIdentifier": "g", "guardrailVersion": "2"}
    assert given.keys().isdisjoint(send.headers)


def test_defect_64_a_stream_that_is_passed_through_is_counted():
    assert (facts().usage.input, facts().usage.output, facts().stop, facts().reported) == (7, 9, "end_turn", True)


@pytest.mark.parametrize(
    ("header", "value", "member"),
    [
        ("performanceconfig-latency", "optimized", {"performanceConfig": {"latency": "optimized"}}),
        ("service-tier", "flex", {"serviceTier": {"type": "flex"}}),
        ("request-metadata", '{"team":"a"}', {"requestMetadata": {"team": "a"}}),
        ("projectidentifier", "proj_1", {"projectIdentifier": "proj_1"}),
    ],
)
def test_invokes_other_options_become_members_or_are_reported(header, value, member):
    """Check that option headers of InvokeModel, such as the service tier, become fields of a Converse body.

    If the provider's API is neither InvokeModel nor Converse, they are reported as dropped.
    """
    headers = {f"x-amzn-bedrock-{header}": value}
    rest, changes = invoke_headers.as_members(headers, Members(b"{}"))
    assert (rest, {name: json.loads(raw) for name, raw in changes.items()}) == ({}, member)
    assert invoke_headers.as_members(headers, Members(json.dumps(member).encode()))[1] == {}
    dropped = []
    invoke_headers.drop_headers(headers, "anthropic_messages", dropped.append)
    assert dropped == [f"/x-amzn-bedrock-{header}"]
    invoke_headers.drop_headers(headers, "bedrock_converse", pytest.fail)


@pytest.mark.parametrize(
    ("model", "stops", "stream", "stop"),
    [
        ("us.anthropic.claude-opus-5", ["x"], False, ["/stop_sequence"]),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", ["x"], True, ["/delta/stop_sequence"]),
        ("us.anthropic.claude-opus-5", [], True, None),
        ("us.amazon.nova-lite-v1:0", ["x"], True, None),
    ],
)
def test_converse_reports_the_met_stop_sequence_where_it_can(model, stops, stream, stop):
    """Check that a request asks Converse to report which stop sequence ended the reply.

    It asks only if the request has stop sequences and the model can report them.
    """
    fields = {"additionalModelResponseFieldPaths": stop} if stop else {}
    assert response_fields(stops, capabilities(model), stream=stream) == fields
