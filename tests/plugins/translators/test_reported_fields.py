"""Tests that errors and losses in a history are reported under the field that the client sent, in each dialect."""

import pytest

from gateway.contract.errors import Refused
from gateway_plugins.shared.output_format import SCHEMA_TOOL
from tests.helpers.second_turn import BASES, asked, body
from tests.helpers.translation import Translator

MODELS = {
    "bedrock_converse": "us.anthropic.claude-haiku-4-5-20251001-v1:0",
    "anthropic_messages": "claude-haiku-4-5",
    "openai_chat": "deepseek-v4-pro",
}
PAIRS = [
    (client, upstream)
    for client in BASES
    for upstream in MODELS
    if client != upstream and (client, upstream) != ("openai_chat", "openai_chat")
]
USER = {"role": "user", "content": "x"}
CONVERSE_USER = {"role": "user", "content": [{"text": "x"}]}
GEMINI_USER = {"role": "user", "parts": [{"text": "x"}]}
HIDDEN = "RXU4RUNrZ0lCeEFC"

# client: (history with redacted thinking after text, the field of that thinking)
THINKING_LAST = {
    "anthropic_messages": (
        [
            USER,
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "So."}, {"type": "redacted_thinking", "data": "Eu8E"}],
            },
            USER,
        ],
        "/messages/1/content/1",
    ),
    "bedrock_converse": (
        [
            CONVERSE_USER,
            {"role": "assistant", "content": [{"text": "So."}, {"reasoningContent": {"redactedContent": HIDDEN}}]},
            CONVERSE_USER,
        ],
        "/messages/1/content/1/reasoningContent",
    ),
    "openai_chat": (
        [
            USER,
            {
                "role": "assistant",
                "content": "So.",
                "thinking_blocks": [{"type": "redacted_thinking", "data": "Eu8E", "text_offset": 3}],
            },
            USER,
        ],
        "/messages/1/thinking_blocks/0",
    ),
}


@pytest.mark.parametrize(("client", "upstream"), [pair for pair in PAIRS if pair[0] in THINKING_LAST])
def test_hidden_thinking_after_text_is_reported_where_it_stood(client, upstream):
    history, at = THINKING_LAST[client]
    made = Translator(client, upstream, BASES[client], MODELS[upstream]).open(body(client, history))
    assert made.dropped == [at]
    assert "Eu8E" not in str(made.body)
    assert HIDDEN not in str(made.body)


# client: (history with a result that answers no call, the field that names the call)
UNKNOWN_CALL = {
    "anthropic_messages": (
        [USER, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c9", "content": "r"}]}],
        "messages[1].content[0].tool_use_id",
    ),
    "bedrock_converse": (
        [CONVERSE_USER, {"role": "user", "content": [{"toolResult": {"toolUseId": "c9", "content": [{"text": "r"}]}}]}],
        "messages[1].content[0].toolResult.toolUseId",
    ),
    "openai_chat": ([USER, {"role": "tool", "tool_call_id": "c9", "content": "r"}], "messages[1].tool_call_id"),
    "openai_responses": ([USER, {"type": "function_call_output", "call_id": "c9", "output": "r"}], "input[1].call_id"),
    "gemini_generate_content": (
        [GEMINI_USER, {"parts": [{"functionResponse": {"id": "c9", "name": "f", "response": {"output": "r"}}}]}],
        "contents[1].parts[0].functionResponse.id",
    ),
}


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_a_result_without_a_call_names_the_clients_own_field(client, upstream):
    history, field = UNKNOWN_CALL[client]
    with pytest.raises(Refused) as refused:
        Translator(client, upstream, BASES[client], MODELS[upstream]).open(body(client, history))
    assert (refused.value.problem.param, '"c9"' in refused.value.problem.message) == (field, True)
    assert refused.value.problem.message.startswith(field)


# names of tools that the gateway adds

FORMATS = {
    "anthropic_messages": {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    "openai_chat": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    },
    "openai_responses": {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}},
    "bedrock_converse": {
        "outputConfig": {
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": '{"type": "object"}'}}}
        }
    },
    "gemini_generate_content": {
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}
    },
}
WITHOUT_SCHEMAS = {
    "bedrock_converse": "us.amazon.nova-pro-v1:0",
    "anthropic_messages": "claude-sonnet-4-20250514",
    "openai_chat": "some-model",
}


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_the_tool_for_an_answers_format_has_one_name_everywhere(client, upstream):
    history = asked(client)
    translator = Translator(client, upstream, BASES[client], WITHOUT_SCHEMAS[upstream])
    made = translator.open({**body(client, history), **FORMATS[client]}, judged=False)
    tools = made.body.get("tools") or made.body["toolConfig"]["tools"]
    names = [tool.get("name") or tool.get("function", tool.get("toolSpec", {}))["name"] for tool in tools]
    assert names == ["f", SCHEMA_TOOL]
