"""Tests of requests to Gemini by clients of the other dialects: contents, tool calls and results, schemas, thinking,
formats.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.contract.flag import COUNT_TOKENS
from tests.helpers.chat_to_converse import IMAGE, PDF, called, result, tool, user
from tests.helpers.second_turn import BASES, asked, body
from tests.helpers.translation import Translator

GEMINI = "gemini_generate_content"
NEW, OLD = "gemini-3-pro-preview", "gemini-2.5-flash"
CHAT = Translator("openai_chat", GEMINI, {"model": "m", "messages": [user("Hi")]}, NEW)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}}


def contents(*messages: dict[str, Any], model: str = NEW) -> list[dict[str, Any]]:
    return CHAT.sent({"messages": list(messages)}, model)["contents"]


def config(request: dict[str, Any], model: str = NEW) -> dict[str, Any]:
    return CHAT.sent(request, model).get("generationConfig", {})


def declared(*tools: dict[str, Any], **more: Any) -> dict[str, Any]:
    return CHAT.sent({"tools": list(tools), **more})


def kinds(content: dict[str, Any]) -> list[str]:
    return [next(iter(part)) for part in content["parts"]]


def test_results_stand_together_in_the_order_of_the_calls():
    """Check that the results of all tool calls are sent in one content, in the order of the calls
    (cloudwego/eino-ext#571, microsoft/vscode#299295).
    """
    calls = called(("a", "f", "{}"), ("b", "g", "{}"), ("c", "f", "{}"))
    made = contents(user("x"), calls, result("c", "3"), result("a", "1"), user("go on"))
    assert [content["role"] for content in made] == ["user", "model", "user", "user"]
    responses = [part["functionResponse"] for part in made[2]["parts"]]
    assert [(each["id"], each["name"], next(iter(each["response"]))) for each in responses] == [
        ("a", "f", "output"), ("b", "g", "error"), ("c", "f", "output"),
    ]  # fmt: skip
    assert made[3]["parts"] == [{"text": "go on"}]


def test_ids_that_come_again_are_made_new_on_both_sides():
    """Check that if a client uses an id for several tool calls, each call gets a unique id, and its response has the
    same id (router-for-me/CLIProxyAPI#5199).
    """
    turn = [called(("call_0", "f", "{}")), result("call_0")]
    made = contents(user("x"), *turn, *turn, *turn)
    calls = [content["parts"][0]["functionCall"]["id"] for content in made if "functionCall" in kinds(content)]
    answers = [
        content["parts"][0]["functionResponse"]["id"] for content in made if "functionResponse" in kinds(content)
    ]
    assert calls == answers
    assert len(set(calls)) == 3


@pytest.mark.parametrize(
    "messages",
    [
        [called(("a", "f", "{}")), result("a")],
        [{"role": "assistant", "content": "Hello"}, user("x")],
        [{"role": "system", "content": "Be brief."}, called(("a", "f", "{}")), result("a")],
    ],
)
def test_a_conversation_begins_with_the_user(messages):
    assert contents(*messages)[0] == {"role": "user", "parts": [{"text": "."}]}


def test_a_request_with_a_system_prompt_only_has_a_turn():
    sent = CHAT.sent({"messages": [{"role": "system", "content": "Be brief."}]})
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [content["role"] for content in sent["contents"]] == ["user"]


def test_a_result_is_text_also_where_it_is_json():
    """Check that a tool result that is JSON is sent to Gemini as text. In JSON, Gemini would resolve a `$ref`
    (vercel/ai#14369).
    """
    text = '{"$ref":"#/$defs/A"}'
    made = contents(user("x"), called(("a", "f", "{}")), result("a", text))
    assert made[2]["parts"][0]["functionResponse"]["response"] == {"output": text}


@pytest.mark.parametrize(("model", "inside"), [(NEW, True), (OLD, False), ("models/gemini-2.5-pro", False)])
def test_files_of_a_result_stand_where_the_model_reads_them(model, inside):
    """Check where the images of a tool's result are sent: after the result for models before Gemini 3, and inside the
    result for later models (google-gemini/gemini-cli#16137).
    """
    translator = Translator("anthropic_messages", GEMINI, {"model": "m", "max_tokens": 9}, model)
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": IMAGE["image_url"]["url"][22:]},
    }
    made = translator.sent({"messages": [
        user("x"), {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
        user([{"type": "tool_result", "tool_use_id": "a", "content": [image]}]),
    ]})["contents"]  # fmt: skip
    assert ("parts" in made[2]["parts"][0]["functionResponse"]) == inside
    assert [kinds(content) for content in made[3:]] == ([] if inside else [["text", "inlineData"]])


def test_files_have_their_names_before_them():
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}
    (made,) = contents(user([{"type": "text", "text": "x"}, IMAGE, file]))
    assert kinds(made) == ["text", "inlineData", "text", "inlineData"]
    assert made["parts"][2] == {"text": 'The file "a.pdf":'}


def test_a_file_that_gemini_does_not_read_is_refused():
    file = {"type": "file", "file": {"filename": "a.docx", "file_data": "data:;base64,UEsDBA=="}}
    assert CHAT.refusal({"messages": [user([file])]}).param == "messages[0].content[0]"


@pytest.mark.parametrize("name", ["1st", "-x", "a b", "mcp.files/read", "x" * 80, "ä"])
def test_a_name_that_gemini_refuses_comes_back_as_it_was(name):
    opened = CHAT.open({"tools": [tool(name)], "messages": [user("x"), called(("a", name, "{}")), result("a")]})
    (function,) = opened.body["tools"][0]["functionDeclarations"]
    call = {"functionCall": {"name": function["name"]}}
    whole = opened.translation.whole(orjson.dumps({"candidates": [{"content": {"parts": [call]}}]}))
    assert orjson.loads(whole)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == name


def test_a_schema_has_neither_references_nor_constants():
    """Check that keywords that Gemini refuses in schemas, such as `$ref` and `const`, are replaced by keywords that it
    accepts. MCP servers send such schemas.

    Reports: anomalyco/opencode#12295, google-gemini/gemini-cli#13326.
    """
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"P": {"type": "object", "properties": {"kind": {"const": "p"}}}},
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/P", "description": "A"}, "const": {"type": ["string", "null"]},
            "any": True, "no": False, "some": {"anyOf": [True, False, {"enum": [1, 2]}]},
        },
        "additionalProperties": False,
    }  # fmt: skip
    (function,) = declared(tool("f", schema))["tools"][0]["functionDeclarations"]
    assert function["parametersJsonSchema"] == {
        "type": "object",
        "properties": {
            "p": {"type": "object", "properties": {"kind": {"enum": ["p"]}}, "description": "A"},
            "const": {"type": ["string", "null"]},
            "any": {},
            "some": {"anyOf": [{}, {"enum": [1, 2]}]},
        },
        "additionalProperties": False,
    }


CHOICES = {
    "auto": None, "required": {"mode": "ANY"}, "none": {"mode": "NONE"},
    "f": {"mode": "ANY", "allowedFunctionNames": ["f"]},
}  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_a_tool_choice_is_a_mode(choice):
    asked_for = {"type": "function", "function": {"name": choice}} if choice == "f" else choice
    sent = declared(tool("f", SCHEMA), tool("g", SCHEMA), tool_choice=asked_for)
    assert sent.get("toolConfig", {}).get("functionCallingConfig") == CHOICES[choice]


def test_strict_tools_are_validated():
    sent = declared(tool("f", SCHEMA, strict=True))
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}


@pytest.mark.parametrize(("model", "by_tool"), [(NEW, False), (OLD, True)])
def test_a_format_beside_functions_is_asked_for_as_the_model_takes_it(model, by_tool):
    """Check that models before Gemini 3 get a schema tool, because they refuse a response schema together with
    functions.
    """
    sent = CHAT.sent({"tools": [tool("f", SCHEMA)], **FORMAT}, model)
    names = [function["name"] for function in sent["tools"][0]["functionDeclarations"]]
    assert names == (["f", "json_output"] if by_tool else ["f"])
    assert ("responseJsonSchema" in sent.get("generationConfig", {})) != by_tool
    assert "responseJsonSchema" in config(FORMAT, model)


def test_any_json_object_is_a_media_type():
    wanted = {"response_format": {"type": "json_object"}}
    assert config(wanted) == {"responseMimeType": "application/json"}
    sent = CHAT.sent({"tools": [tool("f", SCHEMA)], **wanted}, OLD)
    assert "generationConfig" not in sent
    assert "JSON object" in sent["systemInstruction"]["parts"][0]["text"]


def level(name: str, **more: Any) -> dict[str, Any]:
    return {"includeThoughts": True, "thinkingLevel": name, **more}


def budget(tokens: int) -> dict[str, Any]:
    return {"includeThoughts": True, "thinkingBudget": tokens}


THINKING = {
    # (model, members of the client): (thinkingConfig, reported losses)
    ("gemini-3-pro-preview", "high"): (level("HIGH"), []),
    ("gemini-3-pro-preview", "medium"): (level("LOW"), ["/reasoning_effort"]),
    ("gemini-3-pro-preview", "none"): ({"thinkingLevel": "LOW"}, ["/reasoning_effort"]),
    ("gemini-3-flash-preview", "minimal"): (level("MINIMAL"), []),
    ("gemini-3.8-flash", "minimal"): (level("LOW"), ["/reasoning_effort"]),
    ("gemini-4-argon", "xhigh"): (level("HIGH"), ["/reasoning_effort"]),
    ("google/gemini-3.1-pro-preview", "medium"): (level("MEDIUM"), []),
    ("gemini-2.5-flash", "medium"): (budget(8192), []),
    ("gemini-2.5-flash", "none"): ({"thinkingBudget": 0}, []),
    ("gemini-2.5-pro", "none"): ({"thinkingBudget": 1024}, ["/reasoning_effort"]),
    ("gemini-2.5-pro", 50_000): (budget(32_768), ["/thinking/budget_tokens"]),
    ("gemini-2.5-flash-lite", 100): (budget(512), ["/thinking/budget_tokens"]),
    ("gemini-2.5-flash", 4000): (budget(4000), []),
    ("gemini-3-pro-preview", 4000): (level("LOW"), ["/thinking/budget_tokens"]),
    ("gemini-2.0-flash", "high"): ({}, ["/reasoning_effort"]),
    ("gemini-2.5-flash-image", "high"): ({}, ["/reasoning_effort"]),
    ("gemma-3-27b-it", "high"): ({}, ["/reasoning_effort"]),
}


@pytest.mark.parametrize(("model", "wanted"), THINKING)
def test_thinking_is_asked_for_as_the_model_takes_it(model, wanted):
    by_budget = isinstance(wanted, int)
    request = {"thinking": {"type": "enabled", "budget_tokens": wanted}} if by_budget else {"reasoning_effort": wanted}
    opened = CHAT.open(request, model)
    thinking = opened.body.get("generationConfig", {}).get("thinkingConfig", {})
    assert (thinking, opened.dropped) == THINKING[model, wanted]


def test_thinking_without_a_display_is_not_shown():
    hidden = {"thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}}
    opened = CHAT.open(hidden, OLD)
    assert opened.body["generationConfig"] == {"thinkingConfig": {"thinkingBudget": 2000}}
    assert opened.dropped == []


def test_a_budget_for_an_effort_leaves_half_of_the_limit():
    """Check that the thinking budget for an effort leaves half of a small output limit for the answer."""
    assert config({"reasoning_effort": "high", "max_tokens": 2000}, OLD)["thinkingConfig"]["thinkingBudget"] == 1000


def test_parameters_have_their_places():
    request = {
        "temperature": 2, "top_p": 0.5, "top_k": 7, "seed": 1, "presence_penalty": 0.5, "frequency_penalty": -1,
        "max_completion_tokens": 9, "stop": list("abcdefg"), "service_tier": "priority",
    }  # fmt: skip
    opened = CHAT.open(request)
    assert opened.body["generationConfig"] == {
        "temperature": 2, "topP": 0.5, "topK": 7, "seed": 1, "presencePenalty": 0.5, "frequencyPenalty": -1,
        "maxOutputTokens": 9, "stopSequences": list("abcde"),
    }  # fmt: skip
    assert opened.body["serviceTier"] == "priority"
    assert opened.dropped == ["/stop"]


@pytest.mark.parametrize("client", ["anthropic_messages", "bedrock_converse"])
def test_a_count_of_tokens_has_the_whole_request(client):
    """Check that the whole request is counted. It is sent in the field `generateContentRequest` of countTokens."""
    translator = Translator(client, GEMINI, BASES[client], NEW)
    request = replace(translator.request(body(client, asked(client))), operation=COUNT_TOKENS)
    made = translator.module.open(request, translator.target(), lambda _: None)
    sent = orjson.loads(made.request.top.body)
    assert set(sent) == {"generateContentRequest"}
    assert {"contents", "tools"} <= set(sent["generateContentRequest"])
