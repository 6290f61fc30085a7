"""Tests of what influences the cost of a call besides token counts: the service tier, searches, and tokens of images
and sound.
"""

import json

import pytest

from gateway.contract.flag import Event, Usage
from gateway_plugins.bedrock_converse import ConverseMeter
from gateway_plugins.dialects.anthropic_messages import facts as messages_facts
from gateway_plugins.dialects.bedrock import opaque_facts
from gateway_plugins.openai_chat import ChatMeter
from tests.helpers.own_plugins import discover_own

FLAGS = discover_own().flags


@pytest.mark.parametrize(
    ("usage", "tier"),
    [
        ({"service_tier": "batch"}, "batch"),
        ({"service_tier": "standard", "speed": "fast"}, "fast"),
        ({"service_tier": "priority", "speed": "standard"}, "priority"),
        ({"service_tier": "standard", "inference_geo": "us"}, "standard"),
        ({}, ""),
    ],
)
def test_anthropic_names_the_tier_in_its_usage(usage, tier):
    meter = messages_facts.Meter()
    meter.whole(json.dumps({"usage": {"input_tokens": 1, **usage}}).encode())
    assert meter.facts().tier == tier


@pytest.mark.parametrize("geo", ["us", "global", "not_available", "eu"])
def test_anthropic_names_the_geography_apart_from_the_tier(geo):
    meter = messages_facts.Meter()
    usage = {"input_tokens": 1, "service_tier": "standard", "speed": "fast", "inference_geo": geo}
    meter.whole(json.dumps({"usage": usage}).encode())
    assert (meter.facts().tier, meter.facts().geo) == ("fast", geo if geo in {"us", "eu"} else "")


def test_a_geography_of_a_streams_beginning_is_that_of_the_whole():
    meter = messages_facts.Meter()
    start = {"message": {"usage": {"input_tokens": 1, "inference_geo": "us", "service_tier": "standard"}}}
    meter.feed(Event("message_start", json.dumps(start).encode()))
    meter.feed(Event("message_delta", b'{"usage": {"output_tokens": 5, "service_tier": "standard"}}'))
    assert (meter.facts().tier, meter.facts().geo) == ("standard", "us")


def test_anthropics_searches_are_counted_once_in_a_stream():
    meter = messages_facts.Meter()
    for count in (1, 3, 3):
        usage = {"output_tokens": 5, "server_tool_use": {"web_search_requests": count}}
        meter.feed(Event("message_delta", json.dumps({"delta": {}, "usage": usage}).encode()))
    assert meter.facts().extra == {"web_search": 3}


def test_openai_names_the_tier_and_tells_images_and_sound_apart():
    usage = {
        "prompt_tokens": 50,
        "completion_tokens": 9,
        "prompt_tokens_details": {"image_tokens": 30, "audio_tokens": 0},
        "completion_tokens_details": {"audio_tokens": 4},
    }
    meter = ChatMeter()
    meter.whole(json.dumps({"service_tier": "flex", "choices": [], "usage": usage}).encode())
    assert (meter.facts().tier, meter.facts().extra) == ("flex", {"image_input": 30, "audio_output": 4})
    assert meter.facts().usage == Usage(input=50, output=9)


NO_TOKENS = [None, [], "12", 12, {}, {"other": 5}]
NO_NUMBERS = ["x", None, True, -5, 1.5, 1e30, 2**63, 10**9 + 1, [], {}]
METERS = {
    messages_facts.Meter: ("input_tokens", "output_tokens"),
    ChatMeter: ("prompt_tokens", "completion_tokens"),
    ConverseMeter: ("inputTokens", "outputTokens"),
    opaque_facts.Meter: ("inputTokens", "outputTokens"),
}
meters = pytest.mark.parametrize(("make", "names"), METERS.items(), ids=["anthropic", "chat", "converse", "opaque"])


def metered(make, usage):
    meter = make()
    meter.whole(json.dumps({"usage": usage}).encode())
    return meter.facts()


@meters
@pytest.mark.parametrize("usage", NO_TOKENS)
def test_a_usage_without_tokens_is_no_report(make, names, usage):
    assert metered(make, usage).reported is False


@meters
@pytest.mark.parametrize("wrong", NO_NUMBERS)
def test_what_cannot_be_a_number_of_tokens_counts_as_missing(make, names, wrong):
    assert metered(make, dict.fromkeys(names, wrong)).reported is False
    facts = metered(make, {names[0]: 7, names[1]: wrong})
    assert (facts.reported, facts.usage) == (True, Usage(input=7))


def test_zeros_of_a_server_that_does_not_count_are_no_report():
    assert metered(ChatMeter, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}).reported is False


def test_more_cached_than_there_were_tokens_makes_no_input():
    usage = {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": -1_000_000, "cache_write_tokens": 4}}
    assert metered(ChatMeter, usage).usage == Usage(input=6, cache_write_5m=4)


@pytest.mark.parametrize(
    ("flag", "kind", "data", "size"),
    [
        ("anthropic_messages", "content_block_delta", {"delta": {"text": "ä"}}, 2),
        ("anthropic_messages", "content_block_delta", {"delta": {"thinking": "abc"}}, 3),
        ("anthropic_messages", "content_block_delta", {"delta": {"partial_json": "{}"}}, 2),
        ("anthropic_messages", "content_block_delta", {"delta": {"signature": "s"}}, 0),
        ("anthropic_messages", "message_delta", {"delta": {"text": "abc"}}, 0),
        ("bedrock_model_invoke", "content_block_delta", {"delta": {"text": "abc"}}, 3),
        ("bedrock_model_invoke", "chunk", {"contentBlockDelta": {"delta": {"text": "abc"}, "contentBlockIndex": 0}}, 3),
        ("bedrock_model_invoke", "chunk", {"outputs": [{"text": "abc", "stop_reason": None}]}, 3),
        ("bedrock_converse", "contentBlockDelta", {"delta": {"text": "abc"}}, 3),
        ("bedrock_converse", "contentBlockDelta", {"delta": {"toolUse": {"input": "{}"}}}, 2),
        ("bedrock_converse", "contentBlockDelta", {"delta": {"reasoningContent": {"text": "abc"}}}, 3),
        ("openai_chat", "chat.completion.chunk", {"choices": [{"delta": {"content": "a", "reasoning": "bc"}}]}, 3),
        (
            "openai_chat",
            "chat.completion.chunk",
            {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]},
            2,
        ),
        ("openai_chat", "done", [], 0),
    ],
)
def test_what_a_model_wrote_is_text_thinking_and_arguments(flag, kind, data, size):
    assert FLAGS[flag].output_bytes(Event(kind, json.dumps(data).encode())) == size


@pytest.mark.parametrize(
    ("members", "tier"),
    [
        ({"serviceTier": {"type": "flex"}}, "flex"),
        ({"serviceTier": {"type": "default"}, "performanceConfig": {"latency": "optimized"}}, "optimized"),
        ({"performanceConfig": {"latency": "standard"}}, ""),
        ({"serviceTier": "flex"}, ""),
    ],
)
def test_converses_tier_is_read_from_reply_and_metadata(members, tier):
    """Check that the service tier is read from an unstreamed Converse reply, and from the event `metadata` of a
    Converse stream.
    """
    data = json.dumps({"usage": {"inputTokens": 1}, **members}).encode()
    whole, streamed = ConverseMeter(), ConverseMeter()
    whole.whole(data)
    streamed.feed(Event("metadata", data))
    assert (whole.facts().tier, streamed.facts().tier) == (tier, tier)


def test_invoke_names_the_tier_in_headers():
    latency = "x-amzn-bedrock-performanceconfig-latency"
    assert opaque_facts.tier_of_headers({"x-amzn-bedrock-service-tier": "priority"}) == "priority"
    assert opaque_facts.tier_of_headers({latency: "optimized", "x-amzn-bedrock-service-tier": "default"}) == "optimized"
    assert opaque_facts.tier_of_headers({}) == ""


REPORTS = {
    "chat": (ChatMeter, "chat.completion.chunk", ("prompt_tokens", "completion_tokens")),
    "converse": (ConverseMeter, "metadata", ("inputTokens", "outputTokens")),
    "anthropic": (messages_facts.Meter, "message_delta", ("input_tokens", "output_tokens")),
}


@pytest.mark.parametrize(("make", "kind", "names"), REPORTS.values(), ids=REPORTS)
@pytest.mark.parametrize("outputs", [(5, 9), (12, 9), (9, 9), (9, 0)])
def test_the_last_report_counts_and_none_is_added(make, kind, names, outputs):
    meter = make()
    for output in outputs:
        meter.feed(Event(kind, json.dumps({"usage": dict(zip(names, (7, output), strict=True))}).encode()))
    assert meter.facts().usage == Usage(input=7, output=9)


def test_headers_complete_the_metrics_and_are_not_added():
    meter = opaque_facts.Meter(billed={"input": 7, "output": 9})
    metrics = {"outputTokenCount": 5}
    meter.feed(Event(messages_facts.INVOCATION_METRICS, json.dumps(metrics).encode()))
    assert meter.facts().usage == Usage(input=7, output=5)
