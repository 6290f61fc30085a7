"""Tests that both conversions of Chat to Claude, through Converse and through Messages, send equivalent requests and
report the same losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.errors import Refused
from tests.helpers import chat_to_converse, chat_to_messages

HAIKU, OPUS_4_6, OPUS_5, SONNET_5 = "haiku-4-5-20251001-v1:0", "opus-4-6-v1", "opus-5", "sonnet-5"
MODELS = (HAIKU, OPUS_4_6, OPUS_5, SONNET_5)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def caps_of(model: str) -> Caps:
    return capabilities(f"anthropic.claude-{model}")


@dataclass(frozen=True)
class Outcome:
    """The result of a conversion, in the same form for each provider: what the request asks for, and the dropped
    fields.
    """

    limit: int | None
    thinking: Any
    effort: str | None
    sampling: dict[str, float]
    stops: list[str]
    tools: list[str]
    choice: Any
    tier: str | None
    system: list[str]
    schema: Any
    dropped: list[str]


def through_converse(body: dict[str, Any], caps: Caps) -> Outcome:
    drops: list[str] = []
    sent = chat_to_converse.sent(body, caps, drops)
    config, fields = sent.get("inferenceConfig", {}), sent.get("additionalModelRequestFields", {})
    tools = sent.get("toolConfig", {"tools": []})
    (kind, inner), *_ = tools.get("toolChoice", {"auto": {}}).items()
    text = sent.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema", {}).get("schema")
    sampling = {"temperature": config.get("temperature"), "top_p": config.get("topP"), "top_k": fields.get("top_k")}
    choice = {"type": kind, **inner} | fields.get("tool_choice", {})
    return Outcome(
        config.get("maxTokens"),
        fields.get("thinking"),
        fields.get("output_config", {}).get("effort"),
        {name: value for name, value in sampling.items() if value is not None},
        config.get("stopSequences", []),
        [tool["toolSpec"]["name"] for tool in tools["tools"]],
        choice,
        sent.get("serviceTier", {}).get("type"),
        [block["text"] for block in sent.get("system", [])],
        orjson.loads(text) if text else None,
        drops,
    )


def through_messages(body: dict[str, Any], caps: Caps) -> Outcome:
    translation, drops = chat_to_messages.opened(body, caps)
    sent = orjson.loads(translation.request.top.body)
    output = sent.get("output_config", {})
    return Outcome(
        sent.get("max_tokens"),
        sent.get("thinking"),
        output.get("effort"),
        {name: sent[name] for name in ("temperature", "top_p", "top_k") if name in sent},
        sent.get("stop_sequences", []),
        [tool["name"] for tool in sent.get("tools", [])],
        sent.get("tool_choice", {"type": "auto"}),
        sent.get("service_tier"),
        [block["text"] for block in sent.get("system", [])],
        output.get("format", {}).get("schema"),
        drops,
    )


CONVERSIONS = (through_converse, through_messages)


def agreed(body: dict[str, Any], model: str) -> Outcome:
    one, other = (conversion(body, caps_of(model)) for conversion in CONVERSIONS)
    assert sorted(one.dropped) == sorted(other.dropped)
    assert {**vars(one), "dropped": []} == {**vars(other), "dropped": []}
    return one


def own(**more: Any) -> dict[str, Any]:
    return {"thinking": {"type": "enabled", **more}}


LOOK = chat_to_converse.tool("look")
CALL_LOOK = {"type": "function", "function": {"name": "look"}}
CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a limit": {"max_tokens": 50},
    "a budget below the limit": own(budget_tokens=10_000) | {"max_tokens": 12_000},
    "a budget without a limit": own(budget_tokens=40_000),
    "a budget above the limit": own(budget_tokens=5000) | {"max_tokens": 3000},
    "a budget that is too small": own(budget_tokens=10),
    "a budget of nothing": own(budget_tokens=0),
    "a budget for a tiny limit": own(budget_tokens=5000) | {"max_tokens": 1000},
    "a budget and an effort": own(budget_tokens=10_000) | {"max_tokens": 12_000, "reasoning_effort": "low"},
    "a budget and no effort": own(budget_tokens=10_000) | {"reasoning_effort": "none"},
    "thinking without a budget": own(),
    "adaptive": {"thinking": {"type": "adaptive"}},
    "adaptive with an effort": {"thinking": {"type": "adaptive", "display": "omitted"}, "reasoning_effort": "medium"},
    "disabled": {"thinking": {"type": "disabled"}},
    "disabled and an effort": {"thinking": {"type": "disabled"}, "reasoning_effort": "high"},
    **{f"effort {name}": {"reasoning_effort": name} for name in ("none", "minimal", "low", "high", "xhigh", "max")},
    "an effort for a small limit": {"reasoning_effort": "high", "max_tokens": 10_000},
    "an effort for a tiny limit": {"reasoning_effort": "low", "max_tokens": 500},
    "temperature": {"temperature": 0.5},
    "temperature above one": {"temperature": 1.7},
    "temperature and top_p": {"temperature": 0.5, "top_p": 0.9},
    "top_p and top_k": {"top_p": 0.9, "top_k": 20},
    "sampling beside thinking": {"temperature": 0.5, "top_p": 0.9, "top_k": 2, "reasoning_effort": "low"},
    "temperature one beside thinking": {"temperature": 1, "top_p": 0.99, "reasoning_effort": "low"},
    "stops": {"stop": ["END", "\n", ""]},
    "a stop of white space": {"stop": ["\n"]},
    **{f"tier {tier}": {"service_tier": tier} for tier in ("auto", "default", "flex", "priority")},
    "a demanded tool": {"tools": [LOOK], "tool_choice": "required"},
    "a tool by name": {"tools": [LOOK], "tool_choice": CALL_LOOK},
    "a demanded function": {"functions": [LOOK["function"]], "function_call": {"name": "look"}},
    "a demanded tool beside thinking": {"tools": [LOOK], "tool_choice": "required", "reasoning_effort": "low"},
    "a demanded function beside thinking": {
        "functions": [LOOK["function"]], "function_call": {"name": "look"}, "reasoning_effort": "low",
    },
    "one call at a time": {"tools": [LOOK], "parallel_tool_calls": False},
    "a strict tool": {"tools": [chat_to_converse.tool("look", strict=True)]},
    "a JSON object": {"response_format": {"type": "json_object"}},
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    "nothing carried": {"seed": 1, "user": "ann", "logit_bias": {"1": 2}, "verbosity": "low", "store": True},
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", CASES)
def test_both_conversions_send_the_same_and_report_the_same(case, model):
    agreed(CASES[case], model)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a demand without tools": ({"tool_choice": "required"}, "tool_choice"),
    "a demand with empty tools": ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    "a tool without tools": ({"tool_choice": CALL_LOOK}, "tool_choice"),
    "an unknown tool": ({"tools": [chat_to_converse.tool("other")], "tool_choice": CALL_LOOK}, "tool_choice"),
    "an unknown function": ({"functions": [{"name": "f"}], "function_call": {"name": "look"}}, "function_call"),
    "an unknown tier": ({"service_tier": "scale"}, "service_tier"),
    "an unknown effort": ({"reasoning_effort": "huge"}, "reasoning_effort"),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", REFUSED)
def test_both_conversions_refuse_what_cannot_be_meant_and_name_the_field(case, model):
    body, field = REFUSED[case]
    problems = []
    for conversion in CONVERSIONS:
        with pytest.raises(Refused) as refused:
            conversion(body, caps_of(model))
        problems.append(refused.value.problem)
    assert [(problem.code, problem.param) for problem in problems] == [("invalid_request", field)] * 2


@pytest.mark.parametrize(
    ("case", "limit", "budget", "dropped"),
    [
        ("a budget below the limit", 12_000, 10_000, []),
        ("a budget without a limit", 72_000, 40_000, []),
        ("a budget above the limit", 3000, 2999, ["/thinking/budget_tokens"]),
        ("a budget that is too small", 33_024, 1024, ["/thinking/budget_tokens"]),
        ("a budget for a tiny limit", 1000, None, ["/thinking"]),
        ("a budget and an effort", 12_000, 10_000, ["/reasoning_effort"]),
        ("a budget and no effort", 42_000, 10_000, ["/reasoning_effort"]),
        ("adaptive", 48_384, 16_384, []),
        ("disabled and an effort", 32_000, None, ["/reasoning_effort"]),
        ("effort minimal", 33_024, 1024, []),
        ("effort max", 48_384, 16_384, ["/reasoning_effort"]),
        ("an effort for a small limit", 10_000, 5000, []),
    ],
)
def test_a_budget_is_the_clients_or_comes_from_the_effort(case, limit, budget, dropped):
    """Check that a model with a thinking budget gets the client's budget. If the client sets only an effort, a budget
    is derived from it.
    """
    outcome = agreed(CASES[case], HAIKU)
    assert (outcome.limit, (outcome.thinking or {}).get("budget_tokens")) == (limit, budget)
    assert outcome.dropped == dropped


@pytest.mark.parametrize("model", MODELS[1:])
@pytest.mark.parametrize(
    ("case", "effort", "dropped"),
    [
        ("a budget below the limit", "medium", ["/thinking/budget_tokens"]),
        ("a budget and an effort", "low", ["/thinking/budget_tokens"]),
        ("thinking without a budget", None, []),
        ("adaptive with an effort", "medium", []),
        ("effort minimal", "low", ["/reasoning_effort"]),
    ],
)
def test_an_adaptive_model_gets_an_effort_and_a_budget_is_reported(case, effort, dropped, model):
    outcome = agreed(CASES[case], model)
    assert outcome.thinking["type"] == "adaptive"
    assert (outcome.effort, outcome.dropped) == (effort, dropped)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", ["effort none", "disabled"])
def test_no_effort_is_no_thinking_and_no_loss(case, model):
    outcome = agreed(CASES[case], model)
    off = {"type": "disabled"} if caps_of(model).thinks_by_default else None
    assert (outcome.thinking, outcome.effort, outcome.dropped) == (off, None, [])


@pytest.mark.parametrize("model", MODELS)
def test_refused_settings_are_reported_unless_they_ask_nothing(model):
    """Check that settings that the provider refuses are left out and reported as dropped.

    A setting that asks for the default is left out without a report.
    """
    assert (agreed(CASES["a stop of white space"], model).stops, agreed(CASES["stops"], model).stops) == ([], ["END"])
    assert agreed(CASES["a stop of white space"], model).dropped == ["/stop"]
    assert (agreed(CASES["tier default"], model).tier, agreed(CASES["tier default"], model).dropped) == (None, [])
    assert agreed(CASES["a JSON object"], model).dropped == ["/response_format"]
    assert "JSON" in agreed(CASES["a JSON object"], model).system[0]
    assert agreed(CASES["nothing"], model).limit == 32_000
