"""Tests of the parameters, tools and formats in Chat requests that are translated to Messages.

Other fields are refused, or reported as dropped.
"""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.contract.capabilities import capabilities
from tests.helpers.chat_to_messages import CLAUDE, HISTORY, dropped, opened, refusal, sent

ADAPTIVE = replace(CLAUDE, reasoning="adaptive", efforts=("low", "medium", "high", "max"), thinking_display=True)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}


def tool(name="f", **more):
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, **more}}


# model, limit, stream


def test_the_body_names_the_providers_model_and_a_limit():
    body = sent({})
    assert (body["model"], body["max_tokens"]) == ("anthropic.claude-x", 32_000)
    assert "stream" not in body


def test_a_stream_is_asked_for_in_the_body():
    assert sent({"stream": True}, stream=True)["stream"] is True


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_clients_limit_is_kept(name):
    assert sent({name: 77})["max_tokens"] == 77


def test_a_limit_below_the_models_smallest_is_raised():
    assert sent({"max_tokens": 1}, replace(CLAUDE, min_max_tokens=16))["max_tokens"] == 16


def test_stop_becomes_a_list_without_blank_entries():
    assert sent({"stop": "END"})["stop_sequences"] == ["END"]
    caps = replace(CLAUDE, blank_stops=False)
    assert sent({"stop": ["", "END", "\n"]}, caps)["stop_sequences"] == ["END"]
    assert dropped({"stop": ["END", "\n"]}, caps) == ["/stop"]


# sampling


def test_defect_52_of_temperature_and_top_p_the_temperature_stays():
    translation, drops = opened({"temperature": 0.5, "top_p": 0.9})
    assert translation.request.top.decode("temperature") == 0.5
    assert "top_p" not in translation.request.top
    assert drops == ["/top_p"]


def test_a_temperature_over_1_is_clamped_aloud():
    assert sent({"temperature": 1.7})["temperature"] == 1
    assert dropped({"temperature": 1.7}) == ["/temperature"]


def test_a_top_p_over_1_is_refused():
    problem = refusal({"top_p": 1.5})
    assert (problem.param, problem.message) == ("top_p", "top_p: 1.5 is not a number from 0 to 1")


def test_a_model_without_sampling_gets_none():
    caps = replace(CLAUDE, sampling="none")
    assert dropped({"temperature": 0, "top_k": 3}, caps) == ["/temperature", "/top_k"]


def test_thinking_takes_no_temperature():
    assert dropped({"temperature": 0.2, "reasoning_effort": "low"}) == ["/temperature"]
    assert dropped({"temperature": 1, "reasoning_effort": "low"}) == []


# thinking


@pytest.mark.parametrize(("effort", "tokens"), [("minimal", 1024), ("low", 2048), ("medium", 8192), ("high", 16_384)])
def test_an_effort_becomes_a_budget_below_the_limit(effort, tokens):
    body = sent({"reasoning_effort": effort})
    assert body["thinking"] == {"type": "enabled", "budget_tokens": tokens}
    assert body["max_tokens"] == tokens + 32_000


def test_no_effort_is_no_thinking():
    assert "thinking" not in sent({"reasoning_effort": "none"})
    assert "thinking" not in sent({})


def test_a_limit_too_small_for_thinking_drops_it_aloud():
    body = {"reasoning_effort": "high", "max_tokens": 1024}
    assert "thinking" not in sent(body)
    assert dropped(body) == ["/reasoning_effort"]


def test_a_budget_that_the_client_names_is_kept_below_the_limit():
    thinking = {"type": "enabled", "budget_tokens": 5000}
    assert sent({"thinking": thinking})["thinking"]["budget_tokens"] == 5000
    small = {"thinking": thinking, "max_tokens": 3000}
    assert sent(small)["thinking"]["budget_tokens"] == 2999
    assert dropped(small) == ["/thinking/budget_tokens"]


def test_an_adaptive_model_gets_the_effort_and_shows_its_thinking():
    body = sent({"reasoning_effort": "high"}, ADAPTIVE)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "high"}


def test_defect_51_the_clients_display_is_forwarded():
    body = sent({"thinking": {"type": "adaptive", "display": "omitted"}}, ADAPTIVE)
    assert body["thinking"]["display"] == "omitted"


def test_an_effort_that_the_model_lacks_becomes_the_nearest_aloud():
    assert sent({"reasoning_effort": "minimal"}, ADAPTIVE)["output_config"] == {"effort": "low"}
    assert dropped({"reasoning_effort": "minimal"}, ADAPTIVE) == ["/reasoning_effort"]


def test_an_adaptive_model_gets_no_budget():
    body = {"thinking": {"type": "enabled", "budget_tokens": 5000}}
    assert sent(body, ADAPTIVE)["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert dropped(body, ADAPTIVE) == ["/thinking/budget_tokens"]


def test_an_adaptive_model_can_be_told_not_to_think():
    for body in ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}):
        assert "thinking" not in sent(body, ADAPTIVE)
        assert dropped(body, ADAPTIVE) == []


def test_defect_50_a_model_that_does_not_think_is_not_asked_to():
    caps = replace(CLAUDE, reasoning="none")
    assert "thinking" not in sent({"reasoning_effort": "low"}, caps)
    assert dropped({"reasoning_effort": "low"}, caps) == ["/reasoning_effort"]


def test_a_model_that_always_thinks_is_told_nothing_and_reports_it():
    caps = replace(CLAUDE, reasoning="always")
    assert "thinking" not in sent({"reasoning_effort": "low"}, caps)
    assert dropped({"reasoning_effort": "low", "temperature": 0.3}, caps) == ["/reasoning_effort", "/temperature"]


def test_tools_called_without_thinking_are_answered_without_it():
    body = {"messages": HISTORY, "tools": [tool()], "reasoning_effort": "low"}
    assert "thinking" not in sent(body)
    assert dropped(body) == ["/reasoning_effort"]
    assert sent(body, ADAPTIVE)["thinking"]["type"] == "adaptive"


def test_a_thinking_model_continues_no_turn():
    body = {"messages": [*HISTORY[:1], {"role": "assistant", "content": "So"}], "reasoning_effort": "low"}
    assert sent(body)["messages"][-1]["role"] == "user"


@pytest.mark.parametrize("model", ["sonnet-4-5-20250929-v1:0", "opus-4-6-v1", "opus-4-8", "opus-5-5"])
def test_a_request_with_everything_is_valid_for_every_generation(model):
    body = {
        "messages": [*HISTORY, {"role": "system", "content": "Be brief"}],
        "tools": [tool(strict=True)],
        "tool_choice": "required",
        "reasoning_effort": "high",
        "temperature": 0.3,
        "top_p": 0.9,
        "stop": ["END"],
        "response_format": JSON_SCHEMA,
    }
    made = sent(body, capabilities(f"anthropic.claude-{model}"))
    assert not ({"temperature", "top_p"} <= made.keys())


# tools


def test_a_tool_keeps_name_description_and_schema():
    assert sent({"tools": [tool(description="Find it")]})["tools"] == [
        {"name": "f", "description": "Find it", "input_schema": SCHEMA}
    ]


def test_defect_08_and_09_names_that_are_not_taken_get_an_alias_everywhere():
    name = "mcp.server/" + "long" * 30
    history = [
        HISTORY[0],
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": name, "arguments": "{}"}}]},
        HISTORY[2],
    ]
    choice = {"type": "function", "function": {"name": name}}
    translation, _ = opened({"messages": history, "tools": [tool(name)], "tool_choice": choice})
    body = translation.request.top
    alias = body.decode("tools")[0]["name"]
    assert len(alias) <= 64
    assert alias == body.decode("messages")[1]["content"][0]["name"] == body.decode("tool_choice")["name"]
    called = {"type": "tool_use", "id": "t", "name": alias, "input": {}}
    reply = translation.whole(orjson.dumps({"content": [called], "stop_reason": "tool_use"}))
    assert orjson.loads(reply)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == name


def test_defect_12_only_an_empty_name_is_refused():
    """Check that an empty description is left out, and an empty name is refused."""
    assert "description" not in sent({"tools": [tool(description=" ")]})["tools"][0]
    assert refusal({"tools": [tool("")]}).param == "tools[0].function.name"


@pytest.mark.parametrize("schema", [None, {}, {"type": "object", "properties": None}])
def test_defect_13_a_schema_without_properties_is_an_empty_object(schema):
    made = sent({"tools": [tool(parameters=schema)]})["tools"][0]["input_schema"]
    assert made == {"type": "object", "properties": {}}


def test_defect_14_a_root_of_alternatives_becomes_one_object():
    schema = {
        "anyOf": [
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"$ref": "#/$defs/B"},
        ],
        "$defs": {"B": {"type": "object", "properties": {"b": {"type": "integer"}}}},
    }
    made = sent({"tools": [tool(parameters=schema)]})["tools"][0]["input_schema"]
    assert made["properties"] == {"a": {"type": "string"}, "b": {"type": "integer"}}
    assert "required" not in made
    assert "anyOf" not in made


def test_what_all_parts_demand_stays_demanded():
    schema = {"allOf": [SCHEMA, {"properties": {"x": {}}, "required": ["x"]}]}
    assert sent({"tools": [tool(parameters=schema)]})["tools"][0]["input_schema"]["required"] == ["city", "x"]


def test_a_schema_that_is_no_object_is_refused_with_the_tools_name():
    problem = refusal({"tools": [tool("sum", parameters={"type": "array"})]})
    assert problem.param == "tools[0].function.parameters"
    assert '"sum"' in problem.message


def test_defect_17_strict_goes_only_where_it_is_taken():
    body = {"tools": [tool(strict=True)]}
    assert dropped(body) == ["/tools/0/function/strict"]
    assert sent(body, replace(CLAUDE, strict_tools=True))["tools"][0]["strict"] is True


def test_defect_06_a_history_with_calls_gets_its_tools_back():
    body = sent({"messages": HISTORY})
    assert [offered["name"] for offered in body["tools"]] == ["f"]
    assert body["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_defect_07_every_tool_choice_has_its_counterpart(choice, expected):
    assert sent({"tools": [tool()], "tool_choice": choice}).get("tool_choice") == expected


def test_allowed_tools_are_the_only_ones_offered():
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]},
    }
    body = sent({"tools": [tool("f"), tool("g")], "tool_choice": choice})
    assert [offered["name"] for offered in body["tools"]] == ["g"]
    assert body["tool_choice"] == {"type": "any"}


def test_calls_one_at_a_time():
    body = sent({"tools": [tool()], "parallel_tool_calls": False})
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_a_thinking_model_cannot_be_forced_to_call():
    body = {"tools": [tool()], "tool_choice": "required", "reasoning_effort": "low"}
    assert "tool_choice" not in sent(body)
    assert dropped(body) == ["/tool_choice"]
    assert dropped({**body, "reasoning_effort": "none"}, replace(CLAUDE, forced_tool_choice=False)) == ["/tool_choice"]


def test_a_demanded_tool_without_tools_is_refused():
    assert refusal({"tool_choice": "required"}).param == "tool_choice"


# format


def test_a_json_schema_is_native_where_the_model_has_it():
    output = sent({"response_format": JSON_SCHEMA}, replace(CLAUDE, json_schema=True))["output_config"]
    assert output == {"format": {"type": "json_schema", "schema": {**SCHEMA, "additionalProperties": False}}}


def test_defect_16_a_native_schema_is_closed_with_worded_limits():
    """Check an answer's schema that the API enforces. Additional properties are forbidden in every object, and refused
    keywords are added to descriptions.
    """
    schema = {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 0},
            "minimum": {"type": "array", "minItems": 3, "items": {"type": "object", "properties": {}}},
        },
        "$defs": {"P": {"type": ["object", "null"], "oneOf": [{"type": "string"}]}},
    }
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    caps = replace(ADAPTIVE, json_schema=True)
    output = sent({"response_format": format_, "reasoning_effort": "low"}, caps)["output_config"]
    made = output["format"]["schema"]
    assert output["effort"] == "low"
    assert made["properties"]["age"] == {"type": "integer", "description": "(minimum: 0)"}
    assert made["properties"]["minimum"]["items"]["additionalProperties"] is False
    assert made["$defs"]["P"] == {
        "type": ["object", "null"],
        "anyOf": [{"type": "string"}],
        "additionalProperties": False,
    }


def test_elsewhere_a_json_schema_becomes_a_tool_that_must_be_called():
    body = sent({"response_format": JSON_SCHEMA})
    assert body["tools"][0]["input_schema"] == SCHEMA
    assert body["tool_choice"] == {"type": "tool", "name": "json_output"}


def test_with_other_tools_one_of_all_must_be_called():
    body = sent({"response_format": JSON_SCHEMA, "tools": [tool("json_output")], "parallel_tool_calls": False})
    assert [offered["name"] for offered in body["tools"]] == ["json_output", "json_output_"]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


def test_a_schema_is_in_words_where_no_tool_can_be_forced():
    """Check an answer's schema for a model that cannot be forced to call a tool.

    The schema is written into the system prompt, and the format is reported as dropped.
    """
    body = {"response_format": JSON_SCHEMA, "reasoning_effort": "low"}
    assert '"city"' in sent(body)["system"][-1]["text"]
    assert dropped(body) == ["/response_format"]


def test_json_object_is_asked_for_in_words_and_no_tool_is_made_up():
    body = sent({"response_format": {"type": "json_object"}})
    assert "JSON" in body["system"][0]["text"]
    assert "tools" not in body


# what is refused, what is dropped


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("web_search_options", {}),
        ("service_tier", "scale"),
        ("max_tokens", 0),
        ("reasoning_effort", "huge"),
        ("thinking", {"type": "on"}),
        ("tools", [{"type": "retrieval", "retrieval": {"name": "x"}}]),
        ("response_format", {"type": "xml"}),
        ("stop", 3),
    ],
)
def test_what_would_change_the_meaning_is_refused_with_its_field(name, value):
    assert refusal({name: value}).param.startswith(name)


def test_every_field_that_is_not_carried_is_dropped_aloud():
    lost = {
        "seed": 1,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "logit_bias": {"50256": -100},
        "prediction": {"type": "content", "content": "x"},
        "store": True,
        "metadata": {"a": "b"},
        "user": "ann",
        "safety_identifier": "x",
        "prompt_cache_key": "k",
        "verbosity": "low",
        "made_up/~": 1,
    }
    expected = [f"/{name}" for name in lost if name != "made_up/~"] + ["/made_up~1~0"]
    assert sorted(dropped(lost)) == sorted(expected)


@pytest.mark.parametrize("tier", ["flex", "priority"])
def test_a_tier_that_bedrock_sells_is_carried_to_the_envelope(tier):
    translation, drops = opened({"service_tier": tier})
    assert (translation.request.top.decode("service_tier"), drops) == (tier, [])


def test_values_that_ask_for_nothing_are_no_loss():
    body = {"n": 1, "logprobs": False, "modalities": ["text"], "frequency_penalty": 0, "tools": [], "user": None}
    assert dropped({**body, "parallel_tool_calls": True, "service_tier": "auto", "stream_options": None}) == []
