"""What a reply says beside its tokens and is paid for: the service tier, searches, tokens of images and sound."""

import json

import pytest

from gateway.flag import Event, Usage
from gateway_plugins.bedrock_converse import ConverseMeter
from gateway_plugins.openai_chat import ChatMeter
from gateway_plugins.parts import anthropic_facts, opaque_facts


@pytest.mark.parametrize(
    ("usage", "tier"),
    [
        ({"service_tier": "batch"}, "batch"),
        ({"service_tier": "standard", "speed": "fast"}, "fast"),
        ({"service_tier": "priority", "speed": "standard"}, "priority"),
        ({}, ""),
    ],
)
def test_anthropic_names_the_tier_in_its_usage(usage, tier):
    meter = anthropic_facts.Meter()
    meter.whole(json.dumps({"usage": {"input_tokens": 1, **usage}}).encode())
    assert meter.facts().tier == tier


def test_anthropics_searches_are_counted_once_in_a_stream():
    meter = anthropic_facts.Meter()
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


@pytest.mark.parametrize(
    ("said", "tier"),
    [
        ({"serviceTier": {"type": "flex"}}, "flex"),
        ({"serviceTier": {"type": "default"}, "performanceConfig": {"latency": "optimized"}}, "optimized"),
        ({"performanceConfig": {"latency": "standard"}}, ""),
        ({"serviceTier": "flex"}, ""),
    ],
)
def test_converse_names_the_tier_in_a_reply_and_in_the_metadata_of_a_stream(said, tier):
    data = json.dumps({"usage": {"inputTokens": 1}, **said}).encode()
    whole, streamed = ConverseMeter("m"), ConverseMeter("m")
    whole.whole(data)
    streamed.feed(Event("metadata", data))
    assert (whole.facts().tier, streamed.facts().tier) == (tier, tier)


def test_invoke_names_the_tier_in_headers():
    latency = "x-amzn-bedrock-performanceconfig-latency"
    assert opaque_facts.tier_of_headers({"x-amzn-bedrock-service-tier": "priority"}) == "priority"
    assert opaque_facts.tier_of_headers({latency: "optimized", "x-amzn-bedrock-service-tier": "default"}) == "optimized"
    assert opaque_facts.tier_of_headers({}) == ""
