"""What a call may use at most, from its body alone."""

import base64
import json

import pytest

from gateway.contract.flag import Facts, HttpRequest, Usage
from gateway.contract.json_api import UNLIMITED
from gateway.contract.registry import discover
from gateway.money.quotas.estimate import (
    MAX_OUTPUT,
    MEDIUM_TOKENS,
    Estimate,
    estimate,
    input_tokens,
    probable,
    rate_limited_tokens,
)
from tests.helpers.cpu_time import cpu_seconds

IMAGE = base64.b64encode(bytes(range(256)) * 40).decode()
FLAGS = discover().flags


def body(content):
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()


def test_text_is_counted_at_three_bytes_a_token():
    assert input_tokens(b"x" * 3000) == 1000


def test_nothing_is_still_a_token():
    assert input_tokens(b"") == 1


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}},
        {"image": {"format": "png", "source": {"bytes": IMAGE}}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}},
        {"type": "input_audio", "input_audio": {"data": IMAGE, "format": "wav"}},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{IMAGE}"}},
        {"inlineData": {"mimeType": "image/png", "data": IMAGE}},
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_medium_is_a_constant_in_every_dialect(part, separators):
    without = len(json.dumps([part], separators=separators)) - len(IMAGE)
    tokens = input_tokens(json.dumps([part], separators=separators).encode())
    assert MEDIUM_TOKENS <= tokens <= MEDIUM_TOKENS + without // 3 + 20


@pytest.mark.parametrize("text", ["some words, and more of them " * 100, "short", '"data": ' * 50])
def test_a_text_that_stands_where_media_do_is_counted_as_text(text):
    data = json.dumps({"data": text, "bytes": text, "url": f";base64,{text}"}).encode()
    assert input_tokens(data) == len(data) // 3


@pytest.mark.parametrize("data", [b'"data"' * 400_000, b'"data":"' * 400_000, b'"bytes":"' + b"A" * 16_000_000])
def test_a_large_body_is_estimated_in_a_moment(data):
    assert input_tokens(data) > 0
    assert cpu_seconds(lambda: input_tokens(data)) < 0.5


def request_of(flag, path, **members):
    plugin = FLAGS[flag]
    route = next(route for route in plugin.routes if route.path == path)
    data = json.dumps({"model": "m", **members}).encode()
    return plugin, plugin.parse(HttpRequest(route, path, "", {}, {"model": "m"}, data))


CHAT = ("openai_chat", "/v1/chat/completions")
MESSAGES = ("anthropic_messages", "/v1/messages")
INVOKE = ("bedrock_model_invoke", "/bedrock/model/{model:.+}/invoke")
CONVERSE = ("bedrock_converse", "/bedrock/model/{model:.+}/converse")


@pytest.mark.parametrize(
    ("where", "members"),
    [
        (CHAT, {"max_tokens": 77}),
        (CHAT, {"max_completion_tokens": 77}),
        (CHAT, {"max_tokens": 11, "n": 7}),
        (CHAT, {"max_tokens": 77, "n": -1}),
        (MESSAGES, {"max_tokens": 77}),
        (INVOKE, {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 77}),
        (INVOKE, {"inferenceConfig": {"maxTokens": 77}}),
        (INVOKE, {"inferenceConfig": {"max_new_tokens": 77}}),
        (INVOKE, {"textGenerationConfig": {"maxTokenCount": 77}}),
        (INVOKE, {"max_gen_len": 77}),
        (INVOKE, {"maxTokens": 77}),
        (CONVERSE, {"inferenceConfig": {"maxTokens": 77}}),
    ],
)
def test_every_flag_finds_the_clients_own_limit(where, members):
    plugin, ask = request_of(*where, **members)
    assert plugin.limit(ask) == 77


@pytest.mark.parametrize("where", [CHAT, MESSAGES, INVOKE, CONVERSE])
@pytest.mark.parametrize(
    "members", [{}, {"max_tokens": "77"}, {"max_tokens": True}, {"inferenceConfig": [1]}, {"inferenceConfig": {}}]
)
def test_what_is_no_number_is_no_limit(where, members):
    plugin, ask = request_of(*where, **members)
    assert plugin.limit(ask) is None


@pytest.mark.parametrize(
    ("limit", "expected"), [(77, 77), (None, 128_000), (0, 128_000), (-5, 128_000), (10**12, MAX_OUTPUT)]
)
def test_the_output_is_what_the_client_allows_or_else_what_the_model_can(limit, expected):
    _, ask = request_of(*CHAT)
    assert estimate(ask, limit, [100, 128_000]).output == expected


def test_a_call_without_a_limit_holds_more_than_a_demanded_limit():
    """Check that a call without a limit holds more than the limit that a dialect demands upstream."""
    _, ask = request_of(*CHAT)
    assert estimate(ask, None, [4096]).output == UNLIMITED


@pytest.mark.parametrize(("limit", "held"), [(None, 4096), (50_000, 50_000)])
def test_a_rate_holds_the_clients_limit_or_the_models(limit, held):
    """Check that a rate holds the output that the client allows, or else the usual limit of the model."""
    _, ask = request_of(*CHAT)
    amounts = estimate(ask, limit, [4096])
    assert amounts.tokens == amounts.input + held


@pytest.mark.parametrize(
    ("where", "members", "expected"),
    [
        (CHAT, {"max_completion_tokens": 1, "max_tokens": 900}, 900),
        (CHAT, {"max_output_tokens": 1}, None),
        (CHAT, {"n": 3}, 3 * UNLIMITED),
        (CHAT, {"n": 3, "max_tokens": -1}, 3 * UNLIMITED),
        (MESSAGES, {"max_completion_tokens": 900, "max_tokens": 1}, 1),
        (INVOKE, {"max_tokens": 1, "inferenceConfig": {"max_new_tokens": 900}}, 900),
        (CONVERSE, {"inferenceConfig": {"maxTokens": 1}, "additionalModelRequestFields": {"max_tokens": 900}}, 900),
    ],
)
def test_of_several_limits_the_one_counts_that_the_provider_might_go_by(where, members, expected):
    plugin, ask = request_of(*where, **members)
    assert plugin.limit(ask) == expected


@pytest.mark.parametrize(
    "part",
    [
        {"type": "tool_use", "id": "t", "name": "write", "input": {"data": IMAGE, "bytes": IMAGE}},
        {"toolUse": {"input": {"image": {"source": {"bytes": IMAGE}}}}},
        {"type": "function", "function": {"parameters": {"default": {"data": IMAGE}}}},
    ],
)
def test_what_a_tool_was_given_is_text_however_it_is_called(part):
    data = json.dumps([part]).encode()
    assert input_tokens(data) == len(data) // 3


@pytest.mark.parametrize("asks", [{"service_tier": "priority"}, {"speed": "fast"}, {"serviceTier": {"type": "flex"}}])
def test_a_tier_that_is_asked_for_holds_what_the_dearest_costs(asks):
    _, ask = request_of(*MESSAGES, **asks)
    held = estimate(ask, 10, [])
    assert held.cost([Price(1, 2, 3)]) == 7 * (held.input + 20)


class Price:
    """Nanodollars of a token: input, output, written to a cache; the dearest tier is seven times that."""

    def __init__(self, *units):
        self.units = units

    def cost(self, usage):
        if None in self.units:
            return None
        written = usage.cache_write_5m + 2 * usage.cache_write_1h
        return usage.input * self.units[0] + usage.output * self.units[1] + written * self.units[2]

    def highest_cost(self, usage):
        return 7 * self.cost(usage)


def test_the_dearest_candidate_counts():
    assert Estimate(10, 5).cost([Price(1, 2, 3), Price(3, 1, 3), Price(None)]) == 35


def test_a_body_that_may_be_written_to_a_cache_costs_what_that_costs():
    _, ask = request_of(*MESSAGES, system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}])
    held = estimate(ask, 1, [])
    assert held.caches
    assert held.cost([Price(1, 1, 1)]) == 2 * held.input + 1


def test_without_a_price_nothing_is_known():
    assert Estimate(10, 5).cost([]) == 0


def reported(**usage):
    return Facts(usage=Usage(**usage), reported=True)


@pytest.mark.parametrize(
    ("facts", "seconds", "expected"),
    [
        (None, 0.0, Usage(input=30, output=1)),
        (Facts(), 1.0, Usage(input=30, output=100)),
        (Facts(), 3600.0, Usage(input=30, output=500)),
        (reported(input=9, output=1), 2.0, Usage(input=9, output=200)),
        (reported(input=9, output=900), 2.0, Usage(input=9, output=900)),
        (reported(input=9, cache_read=50), 0.0, Usage(input=9, output=1, cache_read=50)),
    ],
)
def test_a_cut_calls_probable_use_is_the_report_and_text_since(facts, seconds, expected):
    """Check that a call that was cut has probably used the reported tokens and those of the text written since."""
    assert probable(facts, Estimate(30, 1000), seconds) == expected


def test_what_was_reported_is_not_changed_by_an_estimate():
    facts = reported(input=9)
    probable(facts, Estimate(30, 1000), 10.0)
    assert facts.usage == Usage(input=9)


def test_tokens_that_were_read_from_a_cache_do_not_count_towards_a_rate():
    assert rate_limited_tokens(Usage(1, 2, 1000, 4, 8, 2)) == 15
