"""Tests that settings are adapted to the model even if the request is not translated.

The requests go from clients of the Messages API to InvokeModel, and from clients of InvokeModel to the Messages API.
Each case has the model, the client's settings, the settings that are sent in their place, and the losses that are
reported.
"""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.errors import Refused
from tests.helpers.conversion import CONVERSIONS

OPUS_4_7, OPUS_5, SONNET_5 = (
    "us.anthropic.claude-opus-4-7",
    "global.anthropic.claude-opus-5",
    "anthropic.claude-sonnet-5",
)
OPUS_5_5, SONNET_5_5 = "anthropic.claude-opus-5-5", "anthropic.claude-sonnet-5-5"
OPUS_4_5, SONNET_4_6 = "anthropic.claude-opus-4-5-20251101-v1:0", "anthropic.claude-sonnet-4-6"
HAIKU, OLD = "us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"
ENVELOPES = [
    CONVERSIONS["anthropic_messages__bedrock_model_invoke"],
    CONVERSIONS["bedrock_model_invoke__anthropic_messages"],
]
both_ways = pytest.mark.parametrize("conversion", ENVELOPES, ids=lambda conversion: conversion.name)
USER = {"role": "user", "content": "x"}
BASE = {"max_tokens": 9000, "messages": [USER]}
BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 4000}}
ADAPTIVE = {"thinking": {"type": "adaptive"}}
LOW = {"output_config": {"effort": "low"}}
TOOLS = {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}
ANY, NAMED = {"tool_choice": {"type": "any"}}, {"tool_choice": {"type": "tool", "name": "f"}}
ONCE = {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
AUTO_ONCE = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
CALLED = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]}
ANSWERED = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "1"}]}
LOOP = {"messages": [USER, CALLED, ANSWERED], **TOOLS}
PREFILL = {"messages": [USER, {"role": "assistant", "content": "{"}]}
CONTINUED = {"messages": [*PREFILL["messages"], {"role": "user", "content": "Continue."}]}
SCHEMA = {"format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}}
CASES = {
    # case: (model, members of the client, members that replace them; None where there is none, losses)
    "a budget to an adaptive model": (OPUS_4_7, BUDGET | {"temperature": 1}, ADAPTIVE | LOW | {"temperature": None}, ["/thinking/budget_tokens"]),
    "a budget to Opus 5": (OPUS_5, BUDGET, ADAPTIVE | LOW, ["/thinking/budget_tokens"]),
    "a budget to Sonnet 5": (SONNET_5, BUDGET, ADAPTIVE | LOW, ["/thinking/budget_tokens"]),
    "a budget to Sonnet 4.6": (SONNET_4_6, BUDGET, ADAPTIVE | LOW, ["/thinking/budget_tokens"]),
    "a budget with an effort": (OPUS_5, BUDGET | {"output_config": {"effort": "max"}}, ADAPTIVE, ["/thinking/budget_tokens"]),
    "enabled without a budget": (OPUS_5, {"thinking": {"type": "enabled"}}, ADAPTIVE, []),
    "the client's display": (OPUS_5, {"thinking": {"type": "adaptive", "display": "omitted"}}, {}, []),
    "a type to come": (OPUS_5, {"thinking": {"type": "quantum"}}, {}, []),
    "a budget that fits": (HAIKU, BUDGET, {}, []),
    "a budget above the limit": (
        HAIKU,
        {"thinking": {"type": "enabled", "budget_tokens": 12_000}},
        {"thinking": {"type": "enabled", "budget_tokens": 8999}},
        ["/thinking/budget_tokens"],
    ),
    "adaptive to a model with a budget": (HAIKU, ADAPTIVE, {"thinking": {"type": "enabled", "budget_tokens": 4500}}, []),
    "adaptive with an effort": (HAIKU, ADAPTIVE | LOW, {"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": None}, []),
    "a budget in a loop without thinking": (HAIKU, BUDGET | LOOP, {"thinking": None}, ["/thinking"]),
    "adaptive in a loop without thinking": (OPUS_5, ADAPTIVE | LOOP, {}, []),
    "thinking to a model that does not think": (OLD, ADAPTIVE, {"thinking": None}, ["/thinking"]),
    "disabled to a model that does not think": (OLD, {"thinking": {"type": "disabled"}}, {"thinking": None}, []),
    "disabled to a model that can": (OPUS_5, {"thinking": {"type": "disabled"}}, {}, []),
    "disabled beside a strong effort": (
        OPUS_5,
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
        {"output_config": {"effort": "high"}},
        ["/output_config/effort"],
    ),
    "disabled to a model that always thinks": (OPUS_5_5, {"thinking": {"type": "disabled"}}, ADAPTIVE | LOW, ["/thinking"]),
    "disabled by another name": (SONNET_5_5, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "between_tools"}}, []),
    "between tools where it is off": (SONNET_5_5, {"thinking": {"type": "between_tools"}}, {}, []),
    "between tools elsewhere": (OPUS_5, {"thinking": {"type": "between_tools"}}, ADAPTIVE, ["/thinking/type"]),
    "an effort that is too strong": (OPUS_4_7, {"output_config": {"effort": "max"}}, {"output_config": {"effort": "xhigh"}}, ["/output_config/effort"]),
    "an effort to a model without": (HAIKU, {"output_config": {"effort": "low"}}, {"output_config": None}, ["/output_config/effort"]),
    "an effort that is not known": (OPUS_5, {"output_config": {"effort": "ultra"}}, {}, []),
    "temperature and top_p": (OPUS_4_5, {"temperature": 0.5, "top_p": 0.9}, {"top_p": None}, ["/top_p"]),
    "temperature beside thinking": (HAIKU, BUDGET | {"temperature": 0.5}, {"temperature": None}, ["/temperature"]),
    "top_p beside thinking": (HAIKU, BUDGET | {"top_p": 0.5}, {"top_p": None}, ["/top_p"]),
    "top_k beside thinking": (HAIKU, BUDGET | {"top_k": 5}, {"top_k": None}, ["/top_k"]),
    "sampling to a model without": (OPUS_5, {"temperature": 0.5, "top_k": 5}, {"temperature": None, "top_k": None}, ["/temperature", "/top_k"]),
    "a demanded tool beside a budget": (HAIKU, BUDGET | TOOLS | ANY, {"tool_choice": {"type": "auto"}}, ["/tool_choice"]),
    "a named tool beside adaptive thinking": (SONNET_4_6, ADAPTIVE | TOOLS | NAMED, {"tool_choice": {"type": "auto"}}, ["/tool_choice"]),
    "a named tool where both are taken": (SONNET_5, ADAPTIVE | TOOLS | NAMED, {}, []),
    "a demanded tool where none may be": (OPUS_5_5, TOOLS | ONCE, AUTO_ONCE, ["/tool_choice"]),
    "a demanded tool without thinking": (HAIKU, TOOLS | NAMED, {}, []),
    "a stop of white space": (HAIKU, {"stop_sequences": ["END", "\n"]}, {"stop_sequences": ["END"]}, ["/stop_sequences"]),
    "only a stop of white space": (HAIKU, {"stop_sequences": [" "]}, {"stop_sequences": None}, ["/stop_sequences"]),
    "a last turn of the assistant": (OPUS_4_7, PREFILL, CONTINUED, ["/messages/1"]),
    "an empty last turn": (
        OPUS_4_7,
        {"messages": [USER, {"role": "assistant", "content": ""}]},
        {"messages": [USER]},
        [],
    ),
    "a last turn beside thinking": (HAIKU, PREFILL | BUDGET, CONTINUED, ["/messages/1"]),
    "a last turn beside a schema": (HAIKU, PREFILL | {"output_config": SCHEMA}, CONTINUED, ["/messages/1"]),
    "a last turn that is continued": (HAIKU, PREFILL, {}, []),
}  # fmt: skip


@both_ways
@pytest.mark.parametrize("case", CASES)
def test_a_setting_is_fitted_and_the_loss_is_told(conversion, case):
    model, members, replaced, dropped = CASES[case]
    for stream in (False, True):
        call = conversion.call(BASE | members, caps=capabilities(model), stream=stream)
        expected = BASE | members | replaced
        names = BASE.keys() | members.keys() | replaced.keys()
        assert {name: call.sent.get(name) for name in names} == {name: expected.get(name) for name in names}
        assert sorted(call.dropped) == sorted(dropped)
        if "known" not in case and "come" not in case:
            assert call.fault is None


@pytest.mark.parametrize("case", CASES)
def test_a_translation_decides_the_same(case):
    """Check that a translated request has the same losses as an untranslated request with the same settings.

    A few settings are left out of an untranslated request only. The translator raises `Refused` for them.
    """
    model, members, _, dropped = CASES[case]
    conversion = CONVERSIONS["anthropic_messages__bedrock_converse"]
    if "known" in case or "come" in case:
        with pytest.raises(Refused):
            conversion.call(BASE | members, caps=capabilities(model))
        return
    call = conversion.call(BASE | members, caps=capabilities(model))
    assert call.fault is None
    assert sorted(call.dropped) == sorted(dropped)


@both_ways
def test_a_model_that_is_not_known_keeps_its_settings(conversion):
    """Check that a model named by an ARN, which says nothing about the model, gets the client's settings unchanged."""
    body = BASE | BUDGET | TOOLS | NAMED | {"output_config": {"effort": "max"}, "stop_sequences": [" "]}
    call = conversion.call(body, caps=Caps())
    assert {name: call.sent[name] for name in body} == body
    assert call.dropped == []


@both_ways
def test_a_budget_above_the_limit_stays_with_interleaved_thinking(conversion):
    """Check that the thinking budget may exceed the output limit if the model thinks between tool calls."""
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 12_000}}
    beta = {"anthropic_beta": ["interleaved-thinking-2025-05-14"]}
    call = conversion.call(BASE | thinking | TOOLS | beta, caps=capabilities(HAIKU))
    assert (call.sent["thinking"], call.dropped) == (thinking["thinking"], [])


@both_ways
def test_a_strict_tool_goes_only_to_a_model_that_enforces_schemas(conversion):
    strict = {"tools": [{"name": "f", "input_schema": {"type": "object"}, "strict": True}]}
    call = conversion.call(BASE | strict, caps=capabilities(OLD))
    on_bedrock = conversion.provider.name == "bedrock_model_invoke"
    assert ("strict" in call.sent["tools"][0]) != on_bedrock
    assert call.dropped == (["/tools/0/strict"] if on_bedrock else [])
    assert conversion.call(BASE | strict, caps=capabilities(OPUS_5)).dropped == []


def test_a_role_inside_a_turn_is_no_last_turn():
    """Check that a user message at the end is not taken for an assistant message if its text is `assistant`."""
    conversion = ENVELOPES[0]
    said = {"role": "user", "content": [{"type": "text", "text": "assistant"}, {"type": "text", "text": '"assistant"'}]}
    call = conversion.call(BASE | {"messages": [said]}, caps=capabilities(OPUS_5))
    assert (call.sent["messages"], call.dropped) == ([said], [])


@given(
    thinking=st.none()
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["enabled", "adaptive", "disabled", "between_tools"])},
        optional={
            "budget_tokens": st.integers(0, 20_000),
            "display": st.sampled_from(["omitted", "summarized"]),
        },
    ),
    effort=st.none() | st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    choice=st.none() | st.sampled_from([ANY, NAMED, ONCE, AUTO_ONCE]),
    sampling=st.dictionaries(st.sampled_from(["temperature", "top_p"]), st.sampled_from([0, 0.5, 0.96, 1])),
    messages=st.sampled_from([[USER], PREFILL["messages"], LOOP["messages"]]),
    limit=st.integers(1, 20_000),
    model=st.sampled_from([OPUS_4_7, OPUS_5, SONNET_5, OPUS_5_5, SONNET_5_5, OPUS_4_5, SONNET_4_6, HAIKU, OLD]),
)
def test_any_settings_are_accepted_and_fitting_twice_changes_nothing(
    thinking, effort, choice, sampling, messages, limit, model
):
    """Check that the provider accepts any combination of settings after the translator has adapted them to the model,
    and that adapting them again changes nothing.
    """
    body = {"max_tokens": limit, "messages": messages, **TOOLS, **sampling, **(choice or {})}
    body |= {"thinking": thinking} if thinking else {}
    body |= {"output_config": {"effort": effort}} if effort else {}
    caps = capabilities(model)
    for conversion in ENVELOPES:
        call = conversion.call(body, caps=caps)
        assert call.fault is None
        sent = orjson.loads(call.upstream_request.body)
        again = ENVELOPES[0].call({name: value for name, value in sent.items() if name != "model"}, caps=caps)
        assert again.dropped == []
        assert again.sent == ENVELOPES[0].call(body, caps=caps).sent
