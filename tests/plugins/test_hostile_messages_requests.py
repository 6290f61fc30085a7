"""Tests of unusual requests of Messages clients: the gateway must refuse the request, or report the field that it
drops.
"""

from __future__ import annotations

import orjson
import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest, Members, Target
from gateway_plugins import bedrock_model_invoke
from tests.helpers.messages_to import CHAT, CONVERSE, GPT, HAIKU, HELLO, tool

conversions = pytest.mark.parametrize(("conversion", "model"), [(CONVERSE, HAIKU), (CHAT, GPT)])


def on_invoke(**body):
    """Return the InvokeModel body for a Messages request, and the dropped fields."""
    top = Members(orjson.dumps({"model": "m", "max_tokens": 50, "messages": [HELLO], **body}))
    flag = "anthropic_messages"
    ask = ClientRequest(flag, flag, "generate", "POST", "/v1/messages", "", {}, top, "m", stream=False)
    dropped = []
    target = Target("b", "bedrock_model_invoke", HAIKU, flag, capabilities(HAIKU))
    return orjson.loads(bedrock_model_invoke.build(ask, target, dropped.append).body), dropped


def refused(call):
    with pytest.raises(Refused) as error:
        call()
    return error.value.problem


@conversions
@pytest.mark.parametrize("name", [["look"], {"a": 1}, 5, None])
def test_a_tool_demanded_by_what_is_no_name_is_a_400(conversion, model, name):
    body = {"tools": [tool()], "tool_choice": {"type": "tool", "name": name}}
    assert refused(lambda: conversion.sent(body, model)).param == "tool_choice.name"


ELSEWHERE = {
    "thread": {"type": "continue", "previous_message_id": "msg_1"},
    "mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "m"}],
}


@conversions
@pytest.mark.parametrize("name", [*ELSEWHERE, "compaction"])
def test_members_only_anthropics_servers_run_are_refused(conversion, model, name):
    """Check that a request is refused if it uses tools or data on Anthropic's own servers."""
    problem = refused(lambda: conversion.sent({name: ELSEWHERE.get(name, {"type": "x"})}, model))
    assert (problem.code, problem.param) == ("invalid_request", name)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_on_invoke_model_it_is_refused_as_well(name):
    assert refused(lambda: on_invoke(**{name: ELSEWHERE[name]})).param == name


def test_billing_and_fallback_members_are_dropped_on_invoke():
    """Check that `fallbacks`, `billing_policy` and similar fields of Anthropic's own API are reported as dropped on
    InvokeModel.
    """
    more = {"fallbacks": [{"model": "m"}], "fallback_credit_token": "t", "billing_policy": {"bill_to": "user_profile"}}
    body, dropped = on_invoke(**more)
    assert more.keys().isdisjoint(body)
    assert sorted(dropped) == sorted(f"/{name}" for name in more)
    assert on_invoke(fallbacks=[], mcp_servers=[])[1] == []


@pytest.mark.parametrize("model", ["o3", "o4-mini", "gpt-5", "gpt-5.2-chat", "gpt-5.4"])
def test_stop_sequences_are_dropped_for_models_that_refuse_them(model):
    """Check that stop sequences are reported as dropped for models of OpenAI that refuse them."""
    drops = []
    assert "stop" not in CHAT.sent({"stop_sequences": ["END"]}, model, drops)
    assert drops == ["/stop_sequences"]


def test_others_of_openais_take_them():
    assert CHAT.sent({"stop_sequences": ["END"]}, "gpt-4o")["stop"] == ["END"]
