"""Tests of Chat parameters that are translated to Converse: limits, sampling, thinking, tools, the tool choice,
structured output.
"""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.contract.errors import Refused
from gateway.contract.flag import Caps
from tests.helpers.chat_to_converse import (  # fmt: skip
    ALL,
    CLAUDE,
    GPT_OSS,
    LLAMA,
    NEW_CLAUDE,
    NOVA,
    called,
    dropped,
    opened,
    result,
    sent,
    tool,
    user,
)

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": SCHEMA}}


def spec(parameters, caps=CLAUDE, **more):
    body = sent({"tools": [tool("look", parameters, **more)]}, caps)
    return body["toolConfig"]["tools"][0]["toolSpec"]


def schema(parameters, caps=CLAUDE):
    return spec(parameters, caps)["inputSchema"]["json"]


def test_limits_sampling_and_stops_are_carried():
    body = sent({"max_tokens": 10, "temperature": 0.5, "stop": "END"})
    assert body["inferenceConfig"] == {"maxTokens": 10, "temperature": 0.5, "stopSequences": ["END"]}


def test_the_newer_limit_wins():
    assert sent({"max_tokens": 10, "max_completion_tokens": 20})["inferenceConfig"]["maxTokens"] == 20


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_below_the_models_smallest_is_raised_aloud(name):
    drops: list[str] = []
    assert sent({name: 1}, Caps(min_max_tokens=16), drops)["inferenceConfig"]["maxTokens"] == 16
    assert drops == [f"/{name}"]


def test_a_family_that_needs_a_limit_gets_its_own_by_default():
    """Check that a model that needs an output limit gets the default limit of its family if the client sets no
    limit.
    """
    needs = replace(CLAUDE, needs_max_tokens=True)
    assert sent({}, needs)["inferenceConfig"] == {"maxTokens": 32_000}
    assert sent({"max_tokens": 9}, needs)["inferenceConfig"] == {"maxTokens": 9}
    assert "inferenceConfig" not in sent({}, NOVA)


def test_a_stop_of_white_space_goes_to_a_model_that_takes_it():
    assert sent({"stop": ["\n", "END"]}, NOVA)["inferenceConfig"]["stopSequences"] == ["\n", "END"]


def test_empty_stops_are_left_out():
    assert "inferenceConfig" not in sent({"stop": ["", ""]})


def test_stops_for_a_model_without_them_are_dropped_aloud():
    assert dropped({"stop": ["a"]}, Caps(stop_sequences=False)) == ["/stop"]


def test_a_temperature_above_one_is_clamped_aloud():
    drops: list[str] = []
    assert sent({"temperature": 1.7}, CLAUDE, drops)["inferenceConfig"]["temperature"] == 1
    assert drops == ["/temperature"]


def test_defect_52_of_temperature_and_top_p_one_is_kept():
    drops: list[str] = []
    assert sent({"temperature": 0.5, "top_p": 0.9}, CLAUDE, drops)["inferenceConfig"] == {"temperature": 0.5}
    assert drops == ["/top_p"]
    assert sent({"temperature": 0.5, "top_p": 0.9}, NOVA)["inferenceConfig"] == {"temperature": 0.5, "topP": 0.9}


def test_sampling_is_dropped_aloud_where_it_is_refused():
    assert dropped({"temperature": 0.5, "top_p": 0.9, "top_k": 5}, NEW_CLAUDE) == ["/temperature", "/top_p", "/top_k"]


def test_top_k_goes_where_the_family_has_it():
    assert sent({"top_k": 20})["additionalModelRequestFields"] == {"top_k": 20}
    assert sent({"top_k": 20}, NOVA)["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 20}}
    assert dropped({"top_k": 20}, LLAMA) == ["/top_k"]


@pytest.mark.parametrize(
    ("caps", "fields"),
    [
        (NEW_CLAUDE, {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}}),
        (CLAUDE, {"thinking": {"type": "enabled", "budget_tokens": 16_384}}),
        (NOVA, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
        (GPT_OSS, {"reasoning_effort": "high"}),
        (Caps(reasoning="reasoning.effort"), {"reasoning": {"effort": "high"}}),
        (Caps(reasoning="reasoning_config"), {"reasoning_config": "high"}),
    ],
)
def test_defects_50_and_51_each_family_is_asked_to_think_in_its_own_form(caps, fields):
    assert sent({"reasoning_effort": "high"}, caps)["additionalModelRequestFields"] == fields


def test_an_effort_that_is_not_offered_becomes_the_nearest_aloud():
    drops: list[str] = []
    fields = sent({"reasoning_effort": "xhigh"}, GPT_OSS, drops)["additionalModelRequestFields"]
    assert (fields, drops) == ({"reasoning_effort": "high"}, ["/reasoning_effort"])


@pytest.mark.parametrize("caps", ALL)
def test_effort_none_turns_thinking_off_by_not_asking_for_it(caps):
    drops: list[str] = []
    assert "additionalModelRequestFields" not in sent({"reasoning_effort": "none"}, caps, drops)
    assert drops == []


def test_effort_none_is_said_where_a_model_has_a_word_for_it():
    caps = Caps(reasoning="reasoning.effort", efforts=("none", "low"))
    assert sent({"reasoning_effort": "none"}, caps)["additionalModelRequestFields"] == {"reasoning": {"effort": "none"}}


def test_another_family_takes_only_the_level_of_thinking():
    """Check that a model other than Claude gets the effort that corresponds to Anthropic's `thinking`.

    The token budget and the display setting of `thinking` are reported as dropped.
    """
    drops: list[str] = []
    own = {"thinking": {"type": "enabled", "budget_tokens": 3000, "display": "omitted"}}
    assert sent(own, GPT_OSS, drops)["additionalModelRequestFields"] == {"reasoning_effort": "low"}
    assert drops == ["/thinking/budget_tokens", "/thinking/display"]


def test_an_effort_for_a_model_that_does_not_think_is_dropped_aloud():
    assert dropped({"reasoning_effort": "low"}, LLAMA) == ["/reasoning_effort"]
    assert dropped({"reasoning_effort": "none"}, Caps(reasoning="always")) == ["/reasoning_effort"]


@pytest.mark.parametrize(("limit", "budget"), [(None, 8192), (40_000, 8192), (10_000, 5000), (1500, 1024), (500, None)])
def test_a_thinking_budget_fits_below_the_output_limit(limit, budget):
    body = sent({"reasoning_effort": "medium", "max_tokens": limit})
    fields = body.get("additionalModelRequestFields", {})
    assert fields.get("thinking", {}).get("budget_tokens") == budget
    assert body["inferenceConfig"]["maxTokens"] == (limit or 8192 + 32_000)


def test_anthropics_thinking_member_is_carried():
    body = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert sent(body)["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 2000
    assert sent(body, GPT_OSS)["additionalModelRequestFields"] == {"reasoning_effort": "low"}


def test_thinking_takes_no_temperature_top_k_or_forced_tool():
    body = {"reasoning_effort": "low", "temperature": 0.2, "top_k": 3, "tools": [tool()], "tool_choice": "required"}
    drops: list[str] = []
    request = sent(body, CLAUDE, drops)
    assert drops == ["/tool_choice", "/temperature", "/top_k"]
    assert "toolChoice" not in request["toolConfig"]


def test_defect_48_a_budget_without_earlier_thinking_is_dropped():
    """Check that a thinking budget is reported as dropped if the history lacks the thinking before a tool call."""
    body = {"messages": [user("Hi"), called(("a", "look", "{}")), result("a")], "reasoning_effort": "low"}
    drops: list[str] = []
    assert "thinking" not in sent(body, CLAUDE, drops)["additionalModelRequestFields"]
    assert drops == ["/reasoning_effort"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "look"}}, {"tool": {"name": "look"}}),
        ({"name": "look"}, {"tool": {"name": "look"}}),
    ],
)
def test_the_choice_among_tools_is_carried(choice, expected):
    config = sent({"tools": [tool()], "tool_choice": choice})["toolConfig"]
    assert config.get("toolChoice") == expected


def test_defect_07_choice_none_without_calls_leaves_the_tools_out():
    assert "toolConfig" not in sent({"tools": [tool()], "tool_choice": "none"})


def test_defect_07_choice_none_keeps_tools_and_forbids_calls():
    """Check that with the tool choice `none`, the request still has the tools, because the history has calls of them.

    The choice itself is sent if the model can forbid tool calls. For another model, it is reported as dropped.
    """
    body = {
        "messages": [user("Hi"), called(("a", "look", "{}")), result("a")],
        "tools": [tool()],
        "tool_choice": "none",
    }
    assert sent(body)["additionalModelRequestFields"] == {"tool_choice": {"type": "none"}}
    assert dropped(body, NOVA) == ["/tool_choice"]


def test_a_forced_tool_is_dropped_aloud_where_it_is_refused():
    assert dropped({"tools": [tool()], "tool_choice": "required"}, LLAMA) == ["/tool_choice"]


def test_only_allowed_tools_are_offered():
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]}
    body = sent({"tools": [tool("a"), tool("b")], "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}})
    assert [each["toolSpec"]["name"] for each in body["toolConfig"]["tools"]] == ["b"]
    assert body["toolConfig"]["toolChoice"] == {"any": {}}


def test_parallel_calls_are_forbidden_where_that_can_be_said():
    body = {"tools": [tool()], "parallel_tool_calls": False}
    fields = sent(body)["additionalModelRequestFields"]
    assert fields == {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    fields = sent({**body, "tool_choice": "required"})["additionalModelRequestFields"]
    assert fields == {"tool_choice": {"disable_parallel_tool_use": True}}
    assert dropped(body, NOVA) == ["/parallel_tool_calls"]


def test_defect_12_only_a_tool_without_a_name_is_refused():
    """Check that a tool without a name is refused, and that a tool without a description is accepted."""
    with pytest.raises(Refused, match=r"tools\[0\].function.name"):
        opened({"tools": [tool("")]})
    assert "description" not in spec({}, description=" ")


def test_defect_13_properties_that_are_null_become_an_empty_object():
    assert schema({"type": "object", "properties": None}) == {"type": "object", "properties": {}}


def test_defect_14_a_root_that_combines_schemas_becomes_one_object():
    root = schema(
        {
            "$schema": "x",
            "anyOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"type": "object", "properties": {"b": True, "c": False}},
            ],
        }
    )
    assert root == {"type": "object", "properties": {"a": {"type": "string"}, "b": {}, "c": {"not": {}}}}


def test_defect_14_a_root_that_is_no_object_is_refused_by_the_tools_name():
    with pytest.raises(Refused, match='"look"'):
        opened({"tools": [tool("look", {"type": "string"})]})


def test_defect_15_additional_properties_are_stripped_by_family():
    """Check that `additionalProperties` is removed from a schema for some model families, but a property with this name
    is kept.
    """
    given = {
        "type": "object",
        "properties": {"additionalProperties": {"type": "object", "additionalProperties": False}},
    }
    assert schema(given) == given
    assert schema(given, LLAMA) == {"type": "object", "properties": {"additionalProperties": {"type": "object"}}}


def test_defect_17_strict_is_dropped_aloud_where_it_is_refused():
    assert spec({}, strict=True)["strict"] is True
    assert dropped({"tools": [tool(strict=True)]}, NEW_CLAUDE) == ["/tools/0/function/strict"]


def test_defect_16_a_native_schema_closes_objects_and_reports():
    """Check an answer's schema that Converse enforces. Additional properties are forbidden in every object, and refused
    keywords are reported as dropped.
    """
    drops: list[str] = []
    inner = {"type": "object", "properties": {"deep": SCHEMA}}
    wanted = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": inner}}
    format_ = sent({"response_format": wanted}, NEW_CLAUDE, drops)["outputConfig"]["textFormat"]
    assert orjson.loads(format_["structure"]["jsonSchema"]["schema"]) == {
        "type": "object",
        "properties": {
            "deep": {
                "type": "object",
                "properties": {"n": {"type": "integer", "description": "(minimum: 1)"}},
                "required": ["n"],
                "additionalProperties": False,
            }
        },
        "additionalProperties": False,
    }
    assert drops == ["/response_format/json_schema/schema/properties/deep/properties/n/minimum"]


def test_a_schema_is_a_forced_tool_where_it_is_not_native():
    config = sent({"response_format": FORMAT})["toolConfig"]
    assert config["toolChoice"] == {"tool": {"name": "json_output"}}
    config = sent({"response_format": FORMAT, "tools": [tool(), tool("json_output")]})["toolConfig"]
    assert config["toolChoice"] == {"any": {}}
    assert [each["toolSpec"]["name"] for each in config["tools"]] == ["look", "json_output", "json_output_"]


@pytest.mark.parametrize("caps", [LLAMA, Caps(tools=False)])
def test_a_schema_is_asked_for_in_words_where_no_tool_can_be_forced(caps):
    assert "json" in sent({"response_format": FORMAT}, caps)["system"][0]["text"].lower()


def test_a_json_object_is_asked_for_in_words_without_a_tool():
    body = sent({"response_format": {"type": "json_object"}})
    assert "JSON" in body["system"][0]["text"]
    assert "toolConfig" not in body


@pytest.mark.parametrize("tier", ["flex", "priority"])
def test_defect_59_a_service_tier_is_carried_unless_default(tier):
    """Check that a service tier is sent, except for the values that mean the default."""
    assert sent({"service_tier": tier})["serviceTier"] == {"type": tier}
    assert "serviceTier" not in sent({"service_tier": "auto"})
    assert "serviceTier" not in sent({"service_tier": "default"})


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2}, {"logprobs": True}, {"top_logprobs": 3}, {"modalities": ["text", "audio"]}, {"audio": {"voice": "a"}},
        {"web_search_options": {}}, {"service_tier": "scale"}, {"tools": [{"type": "custom", "custom": 1}]},
        {"max_tokens": 0}, {"temperature": "hot"}, {"reasoning_effort": "huge"}, {"response_format": {"type": "xml"}},
        {"messages": []}, {"messages": [{"role": "robot"}]}, {"stop": 5}, {"tool_choice": "sometimes"},
        {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "other"}}},
    ],
)  # fmt: skip
def test_what_would_change_the_meaning_is_a_400_that_names_the_field(body):
    with pytest.raises(Refused) as refused:
        opened(body)
    assert refused.value.problem.code == "invalid_request"
    assert refused.value.problem.param


def test_tools_for_a_model_that_calls_none_are_refused():
    with pytest.raises(Refused, match="calls no tools"):
        opened({"tools": [tool()]}, Caps(tools=False))


def test_every_member_that_is_not_carried_is_reported():
    names = (
        "user",
        "metadata",
        "prediction",
        "store",
        "prompt_cache_key",
        "safety_identifier",
        "verbosity",
        "x/y",
    )
    numbers = {"seed": 7, "frequency_penalty": 1, "presence_penalty": 1}
    body = dict.fromkeys(names, "v") | numbers | {"logit_bias": {"1": 2}}
    body |= {"stream_options": {"include_usage": True, "include_obfuscation": True}}
    expected = {f"/{name.replace('/', '~1')}" for name in body} - {"/stream_options"}
    assert set(dropped(body)) == expected | {"/stream_options/include_obfuscation"}


def test_members_that_ask_for_nothing_are_not_reported():
    body = {
        "n": 1, "logprobs": False, "top_logprobs": 0, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {},
        "store": False, "seed": None, "user": None, "metadata": {}, "modalities": ["text"], "parallel_tool_calls": True,
        "service_tier": "auto", "stream_options": {"include_usage": True}, "response_format": {"type": "text"},
        "audio": None, "tools": [], "tool_choice": None,
    }  # fmt: skip
    assert dropped(body) == []


def test_bedrocks_own_guardrail_member_is_carried():
    config = {"guardrailIdentifier": "abc", "guardrailVersion": "1", "streamProcessingMode": "async"}
    assert sent({"guardrailConfig": config}, stream=True)["guardrailConfig"] == config
    assert "streamProcessingMode" not in sent({"guardrailConfig": config})["guardrailConfig"]
