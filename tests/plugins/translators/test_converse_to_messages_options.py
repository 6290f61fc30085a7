"""Tests of the fields of Converse requests that are translated to Messages, except for `messages`.

They are cache points, tools, parameters, and fields that only Bedrock has.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.contract.capabilities import capabilities
from tests.helpers.converse_to import (
    ADAPTIVE,
    FORMAT,
    HAIKU,
    HELLO,
    INVOKE,
    MESSAGES,
    POINT,
    SCHEMA,
    TOOL,
    TOOLS,
    assistant,
    call,
    result,
    user,
)

CAPS = capabilities(HAIKU)
MARK = {"type": "ephemeral"}
BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 2000}}


def extra(**fields):
    return {"additionalModelRequestFields": fields}


def only(*blocks, **more):
    """Return the content of the Messages request for a Converse request with one user message, which has these blocks."""
    (message,) = MESSAGES.messages(user(*blocks), **more)
    return message["content"]


# cache points


def test_a_cache_point_marks_what_stands_before_it():
    assert only({"text": "a"}, POINT)[0]["cache_control"] == MARK
    body = {"system": [{"text": "a"}, POINT], "toolConfig": {"tools": [TOOL, POINT]}}
    sent = MESSAGES.sent(body)
    assert sent["system"][0]["cache_control"] == MARK
    assert sent["tools"][0]["cache_control"] == MARK


def test_a_cache_point_after_a_result_marks_the_result():
    history = [HELLO, assistant(call()), user(result({"text": "x"}), POINT)]
    assert MESSAGES.messages(*history, **TOOLS)[2]["content"][0]["cache_control"] == MARK


def test_a_lifetime_is_kept_where_the_model_has_it():
    point = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert only({"text": "a"}, point)[0]["cache_control"] == {**MARK, "ttl": "1h"}
    body = {"messages": [user({"text": "a"}, point)]}
    assert MESSAGES.dropped(body, replace(CAPS, cache_ttl=False)) == ["/messages/0/content/1/cachePoint/ttl"]


def test_a_cache_point_behind_nothing_is_dropped_aloud():
    assert MESSAGES.dropped({"messages": [user(POINT, {"text": "a"})]}) == ["/messages/0/content/0/cachePoint"]
    tools = {"toolConfig": {"tools": [POINT, TOOL]}}
    assert MESSAGES.dropped(tools) == ["/toolConfig/tools/0/cachePoint"]


# tools


def test_a_tool_keeps_name_description_and_schema():
    assert MESSAGES.sent(TOOLS)["tools"] == [{"name": "look", "description": "Looks.", "input_schema": SCHEMA}]


def test_strict_is_kept_where_the_model_takes_it():
    strict = {"toolConfig": {"tools": [{"toolSpec": {**TOOL["toolSpec"], "strict": True}}]}}
    assert MESSAGES.sent(strict)["tools"][0]["strict"] is True
    assert MESSAGES.dropped(strict, replace(CAPS, strict_tools=False)) == ["/toolConfig/tools/0/toolSpec/strict"]


@pytest.mark.parametrize(
    ("choice", "fields", "carried"),
    [
        ({"auto": {}}, {}, None),
        ({"any": {}}, {}, {"type": "any"}),
        ({"tool": {"name": "look"}}, {}, {"type": "tool", "name": "look"}),
        (None, {"tool_choice": {"type": "none"}}, {"type": "none"}),
        (
            {"any": {}},
            {"tool_choice": {"disable_parallel_tool_use": True}},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        (
            None,
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_a_choice_among_tools_is_carried_in_either_form(choice, fields, carried):
    config = {"tools": [TOOL]} | ({"toolChoice": choice} if choice else {})
    assert MESSAGES.sent({"toolConfig": config, **extra(**fields)}).get("tool_choice") == carried


def test_a_forced_tool_is_not_forced_beside_thinking():
    config = {"toolConfig": {"tools": [TOOL], "toolChoice": {"any": {}}}, **extra(**BUDGET)}
    assert "tool_choice" not in MESSAGES.sent(config)
    assert MESSAGES.dropped(config) == ["/toolConfig/toolChoice"]


def test_anthropics_own_tools_stand_beside_the_clients():
    own = {"type": "bash_20250124", "name": "bash"}
    sent = MESSAGES.sent(TOOLS | extra(tools=[own]))
    assert [tool["name"] for tool in sent["tools"]] == ["look", "bash"]


def test_a_history_with_calls_and_no_tools_offers_those_that_were_called():
    sent = MESSAGES.sent({"messages": [HELLO, assistant(call()), user(result({"text": "x"}))]})
    assert [tool["name"] for tool in sent["tools"]] == ["look"]
    assert sent["tool_choice"] == {"type": "none"}


# parameters


def test_the_inference_config_is_carried():
    config = {"maxTokens": 7, "temperature": 0.5, "stopSequences": ["END"]}
    sent = MESSAGES.sent({"inferenceConfig": config})
    assert (sent["max_tokens"], sent["temperature"], sent["stop_sequences"]) == (7, 0.5, ["END"])


def test_of_temperature_and_top_p_the_temperature_stays():
    body = {"inferenceConfig": {"temperature": 0.5, "topP": 0.9}}
    assert "top_p" not in MESSAGES.sent(body)
    assert MESSAGES.dropped(body) == ["/inferenceConfig/topP"]


@pytest.mark.parametrize("fields", [{"top_k": 3}, {"inferenceConfig": {"topK": 3}}])
def test_top_k_is_carried_in_either_familys_form(fields):
    assert MESSAGES.sent(extra(**fields))["top_k"] == 3


def test_thinking_is_carried_with_its_budget_and_display():
    thinking = {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}
    sent = MESSAGES.sent({"inferenceConfig": {"maxTokens": 4000}, **extra(thinking=thinking)})
    assert sent["thinking"] == thinking


@pytest.mark.parametrize(
    "fields",
    [{"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}, {"reasoning_config": "low"},
     {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}],
)  # fmt: skip
def test_an_effort_in_another_familys_form_is_a_wish_to_think(fields):
    assert MESSAGES.sent(extra(**fields))["thinking"] == {"type": "enabled", "budget_tokens": 2048}


def test_novas_disabled_reasoning_is_no_thinking():
    assert "thinking" not in MESSAGES.sent(extra(reasoningConfig={"type": "disabled"}))


@pytest.mark.parametrize("body", [{"outputConfig": {"effort": "low"}}, extra(output_config={"effort": "low"})])
def test_an_effort_of_the_answer_is_no_wish_to_think(body):
    sent = ADAPTIVE.sent(body)
    assert sent["output_config"] == {"effort": "low"}
    assert "thinking" not in sent


def test_an_effort_needs_a_beta_or_is_unknown_to_the_model():
    """Check that `effort` is sent together with its beta on a model that needs the beta.

    For a model without efforts, the field is reported as dropped.
    """
    body = {"outputConfig": {"effort": "low"}}
    sent = MESSAGES.sent(body, replace(CAPS, effort_beta="effort-2025-11-24"))
    assert (sent["output_config"], sent["anthropic_beta"]) == ({"effort": "low"}, ["effort-2025-11-24"])
    assert MESSAGES.dropped(body) == ["/outputConfig/effort"]


def test_an_effort_beside_thinking_is_one_of_thinking():
    fields = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}
    sent = ADAPTIVE.sent(extra(**fields))
    assert (sent["thinking"]["type"], sent["output_config"]) == ("adaptive", {"effort": "high"})


def test_of_two_efforts_that_disagree_the_second_is_dropped_aloud():
    body = {"outputConfig": {"effort": "low"}, **extra(reasoning_effort="high")}
    assert ADAPTIVE.dropped(body) == ["/additionalModelRequestFields/reasoning_effort"]


def test_betas_and_members_of_the_messages_api_are_carried():
    management = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    fields = {"anthropic_beta": ["context-management-2025-06-27"], "context_management": management}
    sent = MESSAGES.sent(extra(**fields))
    assert sent["anthropic_beta"] == ["context-management-2025-06-27"]
    assert sent["context_management"] == management


def test_extra_fields_that_nobody_knows_are_dropped_aloud():
    assert MESSAGES.dropped(extra(made_up=1)) == ["/additionalModelRequestFields/made_up"]


def test_members_that_the_service_model_does_not_have_are_dropped_aloud():
    body = {"made_up": 1, "inferenceConfig": {"seed": 1}, "messages": [{**HELLO, "id": "x"}]}
    assert MESSAGES.dropped(body) == ["/made_up", "/inferenceConfig/seed", "/messages/0/id"]


# structured output


@pytest.mark.parametrize(
    "body", [{"outputConfig": FORMAT}, extra(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})]
)
def test_a_json_schema_is_native_where_the_model_has_it(body):
    sent = MESSAGES.sent(body)
    assert sent["output_config"]["format"]["schema"] == {**SCHEMA, "additionalProperties": False}


def test_elsewhere_a_json_schema_is_a_tool_that_must_be_called():
    translation, drops = MESSAGES.open({"outputConfig": FORMAT}, replace(CAPS, json_schema=False))
    body = json.loads(translation.request.top.body)
    assert body["tool_choice"] == {"type": "tool", "name": "json_output"}
    assert drops == []


def test_a_schema_is_in_the_prompt_where_no_tool_can_be_forced():
    """Check that the system prompt asks for the JSON schema if no tool call can be forced.

    The field with the schema is reported as dropped.
    """
    body = {"outputConfig": FORMAT, **extra(**BUDGET)}
    caps = replace(CAPS, json_schema=False)
    assert "JSON schema" in MESSAGES.sent(body, caps)["system"][-1]["text"]
    assert MESSAGES.dropped(body, caps) == ["/outputConfig/textFormat"]


# what only Bedrock has


def test_bedrocks_options_are_headers_of_invoke_model():
    body = {
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1", "trace": "enabled_full"},
        "serviceTier": {"type": "reserved"},
        "performanceConfig": {"latency": "optimized"},
        "requestMetadata": {"a": "b"},
        "projectIdentifier": "arn:aws:bedrock:us-east-1:123456789012:project/p",
    }
    translation, drops = INVOKE.open(body)
    assert drops == []
    assert translation.request.headers == {
        "x-amzn-bedrock-guardrailidentifier": "g",
        "x-amzn-bedrock-guardrailversion": "1",
        "x-amzn-bedrock-trace": "ENABLED_FULL",
        "x-amzn-bedrock-service-tier": "reserved",
        "x-amzn-bedrock-performanceconfig-latency": "optimized",
        "x-amzn-bedrock-request-metadata": '{"a":"b"}',
        "x-amzn-bedrock-projectidentifier": "arn:aws:bedrock:us-east-1:123456789012:project/p",
    }


def test_elsewhere_they_are_dropped_aloud_but_for_the_guardrail():
    body = {
        "serviceTier": {"type": "flex"},
        "performanceConfig": {"latency": "optimized"},
        "requestMetadata": {"a": "b"},
        "projectIdentifier": "proj_1",
    }
    assert MESSAGES.dropped(body) == ["/serviceTier", "/performanceConfig", "/requestMetadata", "/projectIdentifier"]
    usual = {"serviceTier": {"type": "default"}, "performanceConfig": {"latency": "standard"}, "requestMetadata": {}}
    usual["projectIdentifier"] = "default"
    assert MESSAGES.dropped(usual) == []
    assert MESSAGES.refusal({"guardrailConfig": {"guardrailIdentifier": "g"}}).param == "guardrailConfig"


def test_a_guardrail_that_runs_beside_the_stream_is_named():
    guardrail = {"guardrailIdentifier": "g", "guardrailVersion": "1", "streamProcessingMode": "async"}
    assert INVOKE.dropped({"guardrailConfig": guardrail}) == ["/guardrailConfig/streamProcessingMode"]


def test_response_fields_that_are_not_known_are_named():
    paths = ["/stop_sequence", "/made_up"]
    assert MESSAGES.dropped({"additionalModelResponseFieldPaths": paths}) == ["/additionalModelResponseFieldPaths/1"]


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("promptVariables", {"promptVariables": {"a": {"text": "b"}}}),
        ("messages", {"messages": []}),
        ("toolConfig.tools[0]", {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}),
        ("toolConfig.toolChoice", {"toolConfig": {"tools": [], "toolChoice": {"any": {}}}}),
        ("toolConfig.toolChoice", {"toolConfig": {"tools": [TOOL], "toolChoice": {"tool": {"name": "other"}}}}),
        ("toolConfig.tools[0].toolSpec.name", {"toolConfig": {"tools": [{"toolSpec": {"name": " "}}]}}),
        ("inferenceConfig.maxTokens", {"inferenceConfig": {"maxTokens": 0}}),
        ("inferenceConfig.temperature", {"inferenceConfig": {"temperature": "hot"}}),
        ("inferenceConfig.stopSequences", {"inferenceConfig": {"stopSequences": [1]}}),
        ("outputConfig.effort", {"outputConfig": {"effort": "enormous"}}),
        ("outputConfig.textFormat", {"outputConfig": {"textFormat": {"type": "json_schema"}}}),
        ("serviceTier.type", {"serviceTier": {"type": "gold"}}),
        ("performanceConfig.latency", {"performanceConfig": {"latency": "warp"}}),
        ("requestMetadata", {"requestMetadata": {"a": 1}}),
        ("projectIdentifier", {"projectIdentifier": "a\r\nx-other: b"}),
        ("additionalModelRequestFields", {"additionalModelRequestFields": []}),
        ("additionalModelRequestFields.thinking", extra(thinking="yes")),
        ("additionalModelRequestFields.anthropic_beta", extra(anthropic_beta=[1])),
        ("additionalModelRequestFields.tools", extra(tools=[1])),
        ("additionalModelRequestFields.tool_choice", extra(tool_choice={"type": "maybe"})),
        ("additionalModelRequestFields.top_k", extra(top_k="many")),
        ("additionalModelResponseFieldPaths", {"additionalModelResponseFieldPaths": [1]}),
    ],
)
def test_a_parameter_that_cannot_be_carried_is_refused_by_its_field(field, body):
    problem = MESSAGES.refusal(body)
    assert problem.param == field
    assert field.partition("[")[0] in problem.message
