"""Tests of seeds, penalties, allowed tools and citations of earlier answers, for providers that do not accept them."""

import pytest

from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.errors import Refused
from tests.helpers.conversion import CONVERSIONS

USER = {"messages": [{"role": "user", "content": "x"}]}
SAID = {"messages": [{"role": "user", "content": [{"text": "x"}]}]}
NUMBERS = {"seed": 7, "frequency_penalty": 0.5, "presence_penalty": -1}
PENALTIES = {"frequency_penalty", "presence_penalty"}
CLAUDE, OLD = "us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"


@pytest.mark.parametrize(
    ("name", "body", "at"),
    [
        ("openai_responses__openai_chat", {"input": "x", **NUMBERS}, ""),
        (
            "bedrock_converse__openai_chat",
            SAID | {"additionalModelRequestFields": NUMBERS},
            "/additionalModelRequestFields",
        ),
    ],
)
def test_seed_and_penalties_reach_a_chat_server_that_takes_them(name, body, at):
    for stream in (False, True):
        call = CONVERSIONS[name].call(body, stream=stream)
        assert {key: call.sent.get(key) for key in NUMBERS} == NUMBERS
        assert call.dropped == []
    call = CONVERSIONS[name].call(body, caps=capabilities("o3"))  # refuses penalties, like other sampling parameters
    assert {key for key in NUMBERS if key in call.sent} == {"seed"}
    assert set(call.dropped) == {f"{at}/{key}" for key in PENALTIES}


@pytest.mark.parametrize(
    ("client", "body"), [("openai_responses", {"input": "x", **NUMBERS}), ("openai_chat", USER | NUMBERS)]
)
@pytest.mark.parametrize("provider", ["bedrock_converse", "anthropic_messages", "bedrock_model_invoke"])
def test_seed_and_penalties_are_reported_where_nobody_takes_them(client, body, provider):
    call = CONVERSIONS[f"{client}__{provider}"].call(body, caps=capabilities(CLAUDE))
    assert not NUMBERS.keys() & call.sent.keys()
    assert set(call.dropped) == {f"/{name}" for name in NUMBERS}


def test_a_penalty_of_nothing_is_nothing_and_must_be_a_number():
    conversion = CONVERSIONS["openai_responses__bedrock_converse"]
    call = conversion.call({"input": "x", "frequency_penalty": 0, "presence_penalty": 0.0, "seed": None})
    assert call.dropped == []
    for name, value in (("seed", "x"), ("frequency_penalty", True), ("presence_penalty", [1])):
        with pytest.raises(Refused, match=name):
            conversion.call({"input": "x", name: value})


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize("mode", ["any", "none", "validated", 7, None, ["auto"]])
@pytest.mark.parametrize("provider", ["bedrock_converse", "anthropic_messages"])
def test_an_unknown_mode_of_allowed_tools_is_refused_by_its_name(provider, mode):
    """Check that a request with an unknown mode of allowed tools is refused.

    If the mode became `auto`, the model could skip a tool call that the client requires.
    """
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [TOOL]}}
    with pytest.raises(Refused, match=r"tool_choice\.allowed_tools\.mode"):
        CONVERSIONS[f"openai_chat__{provider}"].call(USER | {"tools": [TOOL], "tool_choice": choice})


def test_citations_of_an_earlier_answer_go_only_to_a_model_that_cites():
    cited = {
        "citationsContent": {
            "content": [{"text": "It is."}],
            "citations": [
                {
                    "title": "d",
                    "sourceContent": [{"text": "is"}],
                    "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 2}},
                }
            ],
        }
    }
    messages = [
        *SAID["messages"],
        {"role": "assistant", "content": [cited]},
        {"role": "user", "content": [{"text": "y"}]},
    ]
    for provider in ("anthropic_messages", "bedrock_model_invoke"):
        conversion = CONVERSIONS[f"bedrock_converse__{provider}"]
        call = conversion.call({"messages": messages}, caps=capabilities(CLAUDE))
        assert "citations" in str(call.sent)
        assert call.dropped == []
        call = conversion.call({"messages": messages}, caps=capabilities(OLD))
        assert "citations" not in str(call.sent)
        assert "It is." in str(call.sent)
        assert call.dropped == ["/messages/1/content/0/citationsContent/citations"]


def test_a_schema_beside_a_prefill_is_told_on_the_way_to_converse():
    """Check a request that has a schema for the answer, and ends with an assistant turn for the model to continue.

    A model that enforces the schema cannot continue the turn. So a user turn follows it, and the assistant turn is
    reported as dropped.
    """
    schema = {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
    body = {
        "max_tokens": 50,
        "messages": [*USER["messages"], {"role": "assistant", "content": "{"}],
        "output_config": {"format": schema},
    }
    call = CONVERSIONS["anthropic_messages__bedrock_converse"].call(body, caps=capabilities(CLAUDE))
    assert call.sent["messages"][-1]["role"] == "user"
    assert call.dropped == ["/messages/1"]


def test_our_own_schema_tool_reports_under_the_schemas_own_pointer():
    """Check that dropped parts of an answer's schema are reported below the pointer of the schema in the client's
    request.

    The gateway sends the schema as a tool.
    """
    schema = {"anyOf": [{"type": "object", "properties": {"a": {}}}, {"type": "object", "properties": {"b": {}}}]}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    caps = Caps(family="x", json_schema=False)
    call = CONVERSIONS["openai_chat__bedrock_converse"].call(USER | {"response_format": wanted}, caps=caps)
    assert call.dropped == ["/response_format/json_schema/schema/anyOf"]
    body = {"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}}
    call = CONVERSIONS["openai_responses__openai_chat"].call(body, caps=caps)
    assert call.dropped == ["/text/format/schema/anyOf"]
