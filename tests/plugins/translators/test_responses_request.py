"""Tests of requests of the Responses API that are translated to Messages, Converse and Chat."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.contract.flag import Caps
from gateway_plugins.dialects.openai_responses.reasoning import packed
from tests.helpers.responses_to import (
    CLAUDE,
    GPT,
    IMAGE,
    TRANSLATORS,
    called,
    conversions,
    dropped,
    output,
    refusal,
    said,
    sent,
    tool,
)
from tests.helpers.samples import PNG

THINKER = replace(GPT, family="deepseek", reasoning_content=True)


def messages(body, **more):
    return sent("anthropic_messages", {**body, **more})["messages"]


def shape(turns):
    return [(message["role"], [block["type"] for block in message["content"]]) for message in turns]


def reasoning(*blocks, **more):
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": packed(blocks), **more}


@conversions
def test_a_text_alone_is_the_users_message(conversion):
    assert "Hi" in str(sent(conversion, {"input": "Hi"})["messages"])


def test_instructions_and_leading_developer_items_become_the_system_prompt():
    body = sent("anthropic_messages", {"instructions": "A", "input": [said("B", "developer"), said("Hi")]})
    assert body["system"] == [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]


def test_calls_in_a_row_are_one_turn_and_so_are_their_outputs():
    turns = messages({"input": [said("Hi"), called("a"), called("b"), output("a"), output("b")]})
    assert shape(turns)[1:] == [("assistant", ["tool_use", "tool_use"]), ("user", ["tool_result", "tool_result"])]


@conversions
def test_an_output_that_comes_late_goes_to_its_call(conversion):
    items = [said("Hi"), called("a"), called("b"), output("b"), said("Wait", "assistant"), output("a"), said("Go")]
    sent(conversion, {"input": items})


def test_reasoning_text_and_calls_keep_their_order_in_a_turn():
    signed = {"thinking": "hm", "signature": "irisgate1:claude:s"}
    hidden = {"data": "irisgate1:claude:abc"}
    items = [said("Hi"), reasoning(signed, hidden), said("Well", "assistant"), called("a"), output("a")]
    assert messages({"input": items})[1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "abc"},
        {"type": "text", "text": "Well"},
        {"type": "tool_use", "id": "a", "name": "look", "input": {}},
    ]


def test_defect_60_reasoning_goes_back_to_converse_with_its_signature():
    signed = {"thinking": "hm", "signature": "irisgate1:claude:s"}
    body = sent("bedrock_converse", {"input": [said("Hi"), reasoning(signed), called("a"), output("a")]})
    assert body["messages"][1]["content"][0] == {
        "reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}
    }


def test_unsigned_reasoning_is_text_for_a_chat_model():
    """Check that unsigned reasoning is sent back as text to a Chat model that reads such text."""
    unsigned = {"thinking": "hm", "signature": "irisgate1:deepseek:"}
    items = [said("Hi"), reasoning(unsigned), called("a"), output("a")]
    assert sent("openai_chat", {"input": items}, THINKER)["messages"][1]["reasoning_content"] == "hm"
    assert dropped("openai_chat", {"input": items}, GPT) == ["/input/1"]


@conversions
def test_reasoning_of_another_family_is_dropped_aloud(conversion):
    foreign = {"thinking": "hm", "signature": "irisgate1:nova:s"}
    items = [said("Hi"), reasoning(foreign), called("a"), output("a")]
    assert dropped(conversion, {"input": items}) == ["/input/1"]


@conversions
@pytest.mark.parametrize("value", ["gAAAAABo", "", "irisgate1+", "irisgate1+bm8=", "irisgate1+WzFd", None])
def test_reasoning_that_is_not_ours_is_dropped_aloud(conversion, value):
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": value}
    assert dropped(conversion, {"input": [said("Hi"), item, said("Yes", "assistant"), said("Go")]}) == ["/input/1"]


def test_reasoning_that_nothing_follows_is_dropped_aloud():
    signed = {"thinking": "hm", "signature": "irisgate1:claude:s"}
    assert dropped("anthropic_messages", {"input": [said("Hi"), reasoning(signed), said("Go")]}) == ["/input/1"]


def test_an_output_may_hold_images_and_files():
    file = {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}
    items = [said("Hi"), called("a"), output("a", [{"type": "input_text", "text": "see"}, IMAGE, file])]
    (result,) = messages({"input": items})[-1]["content"]
    assert [block["type"] for block in result["content"]] == ["text", "image", "document"]


@conversions
def test_custom_tool_calls_are_calls_with_one_text(conversion):
    call = {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": "*** Begin"}
    items = [said("Hi"), call, {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"}]
    assert "*** Begin" in str(sent(conversion, {"input": items}))


def test_local_shell_calls_are_calls_of_a_function():
    action = {"type": "exec", "command": ["ls"], "env": {}}
    call = {"type": "local_shell_call", "id": "lsh_1", "call_id": "a", "action": action, "status": "completed"}
    items = [said("Hi"), call, {"type": "local_shell_call_output", "id": "lsh_1", "output": "a.txt"}]
    body = sent("anthropic_messages", {"input": items, "tools": [{"type": "local_shell"}]})
    assert body["messages"][1]["content"][0]["input"] == {"command": ["ls"], "env": {}}
    assert body["tools"][0]["name"] == "local_shell"


def test_calls_of_a_namespace_are_named_as_its_tools_are():
    namespace = {"type": "namespace", "name": "mcp__files", "description": "Files.", "tools": [tool("read")]}
    items = [said("Hi"), called("a", "read", namespace="mcp__files"), output("a")]
    body = sent("anthropic_messages", {"input": items, "tools": [namespace]})
    assert body["messages"][1]["content"][0]["name"] == body["tools"][0]["name"] == "mcp__files__read"
    assert "Files." in body["tools"][0]["description"]


def test_tools_that_come_in_the_conversation_are_offered():
    items = [{"type": "additional_tools", "role": "developer", "tools": [tool("later")]}, said("Hi")]
    assert sent("anthropic_messages", {"input": items})["tools"][0]["name"] == "later"


def test_a_custom_tool_is_a_function_of_one_text_and_its_grammar_is_told():
    custom = {
        "type": "custom",
        "name": "patch",
        "description": "Edits.",
        "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"},
    }
    (made,) = sent("anthropic_messages", {"tools": [custom]})["tools"]
    assert made["input_schema"]["required"] == ["input"]
    assert "start: /x/" in made["description"]
    assert dropped("anthropic_messages", {"tools": [custom]}) == ["/tools/0/format"]


def test_web_search_that_codex_always_offers_is_dropped_aloud():
    assert dropped("bedrock_converse", {"tools": [tool(), {"type": "web_search", "external_web_access": False}]}) == [
        "/tools/1"
    ]


SERVERS = ["web_search_preview", "file_search", "code_interpreter", "computer_use_preview", "image_generation", "mcp"]


@pytest.mark.parametrize("kind", SERVERS)
def test_a_tool_that_only_openai_runs_is_refused(kind):
    problem = refusal({"tools": [{"type": kind}]})
    assert problem.param == "tools[0].type"
    assert kind in problem.message


REFUSED = {
    "previous_response_id": "resp_1",
    "conversation": {"id": "conv_1"},
    "background": True,
    "prompt": {"id": "pmpt_1"},
    "top_logprobs": 3,
    "include": ["message.output_text.logprobs"],
    "input": 5,
    "instructions": ["no"],
    "tool_choice": {"type": "web_search_preview"},
    "text": [],
    "reasoning": "high",
    "max_output_tokens": 0,
    "temperature": "hot",
    "service_tier": "scale",
    "tools": {},
}


@conversions
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_a_400_that_names_the_member(conversion, name):
    assert refusal({name: REFUSED[name]}, conversion).param == name


ITEMS = {
    "input[1]": "text",
    "input[1].type": {"type": "video_message", "role": "user", "content": "x"},
    "input[1].role": {"role": "tool", "content": "x"},
    "input[1].content": {"role": "user", "content": 5},
    "input[1].content[0].type": {"role": "user", "content": [{"type": "input_video"}]},
    "input[1].content[0].text": {"role": "user", "content": [{"type": "input_text", "text": 5}]},
    "input[1].content[0].image_url": {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
    "input[1].content[0].file_data": {"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]},
    "input[1].content[0]": {"role": "system", "content": [IMAGE]},
    "input[1].call_id": {"type": "function_call_output", "call_id": "unknown", "output": ""},
    "input[1].name": {"type": "function_call", "call_id": "a", "arguments": "{}"},
    "input[1].arguments": {"type": "function_call", "call_id": "a", "name": "f", "arguments": {}},
    "input[1].encrypted_content": {"type": "reasoning", "summary": [], "encrypted_content": 5},
}


@pytest.mark.parametrize("field", ITEMS)
def test_an_item_that_cannot_be_read_is_a_400_that_names_the_place(field):
    assert refusal({"input": [said("Hi"), ITEMS[field]]}).param == field


def test_a_reference_to_a_stored_item_is_refused_with_what_to_send():
    problem = refusal({"input": [said("Hi"), {"type": "item_reference", "id": "msg_1"}]})
    assert (problem.param, "send the item itself" in problem.message) == ("input[1]", True)


NEUTRAL = {
    "store": False,
    "background": False,
    "metadata": {},
    "truncation": "disabled",
    "top_logprobs": 0,
    "service_tier": "auto",
    "parallel_tool_calls": True,
    "tools": [],
    "include": ["reasoning.encrypted_content"],
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "reasoning": {"effort": None, "summary": "auto"},
    "previous_response_id": None,
}


@conversions
def test_what_asks_for_nothing_is_left_out_in_silence(conversion):
    assert dropped(conversion, NEUTRAL) == []


LOST = {
    "/store": {"store": True},
    "/truncation": {"truncation": "auto"},
    "/metadata": {"metadata": {"a": "b"}},
    "/prompt_cache_key": {"prompt_cache_key": "k"},
    "/safety_identifier": {"safety_identifier": "s"},
    "/user": {"user": "u"},
    "/max_tool_calls": {"max_tool_calls": 3},
    "/client_metadata": {"client_metadata": {"a": "b"}},
    "/text/verbosity": {"text": {"verbosity": "low"}},
    "/reasoning/summary": {"reasoning": {"summary": "detailed"}},
    "/include/0": {"include": ["web_search_call.action.sources"]},
    "/made_up": {"made_up": 1},
    "/input/0/content/0/detail": {"input": [{"role": "user", "content": [{**IMAGE, "detail": "high"}]}]},
    "/input/1/phase": {"input": [said("Hi"), {**said("Yes", "assistant"), "phase": "commentary"}, said("Go")]},
    "/input/1": {"input": [said("Hi"), {"type": "web_search_call", "id": "ws_1", "status": "completed"}]},
    "/tools/0/output_schema": {"tools": [tool(output_schema={"type": "object"})]},
}


@conversions
@pytest.mark.parametrize("pointer", LOST)
def test_what_is_not_carried_is_named(conversion, pointer):
    assert dropped(conversion, LOST[pointer]) == [pointer]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "name": "look"}, {"type": "tool", "name": "look"}),
        ({"type": "custom", "name": "patch"}, {"type": "tool", "name": "patch"}),
        ({"type": "function", "name": "read", "namespace": "fs"}, {"type": "tool", "name": "fs__read"}),
        ("auto", None),
    ],
)
def test_every_form_of_tool_choice_is_carried(choice, expected):
    tools = [tool(), {"type": "custom", "name": "patch"}, {"type": "namespace", "name": "fs", "tools": [tool("read")]}]
    assert sent("anthropic_messages", {"tools": tools, "tool_choice": choice}).get("tool_choice") == expected


def test_allowed_tools_are_the_only_ones_offered():
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}
    body = sent("anthropic_messages", {"tools": [tool("a"), tool("b")], "tool_choice": choice})
    assert [offered["name"] for offered in body["tools"]] == ["b"]
    assert body["tool_choice"] == {"type": "any"}


def test_one_call_at_a_time_is_carried():
    body = sent("anthropic_messages", {"tools": [tool()], "parallel_tool_calls": False})
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert sent("openai_chat", {"tools": [tool()], "parallel_tool_calls": False})["parallel_tool_calls"] is False


def test_a_name_that_is_offered_twice_is_refused():
    namespace = {"type": "namespace", "name": "fs", "tools": [tool("read")]}
    assert refusal({"tools": [tool("fs__read"), namespace]}).param == "tools[1].tools[0].name"


def test_an_effort_is_a_budget_for_a_claude_and_an_effort_for_chat():
    assert sent("anthropic_messages", {"reasoning": {"effort": "low"}})["thinking"]["type"] == "enabled"
    assert sent("openai_chat", {"reasoning": {"effort": "low"}})["reasoning_effort"] == "low"


FORM = {"type": "json_schema", "name": "place", "strict": True, "schema": {"type": "object", "properties": {}}}


def test_a_schema_is_carried_in_each_dialects_own_way():
    text = {"text": {"format": FORM}}
    native = replace(CLAUDE, json_schema=True)
    assert sent("anthropic_messages", text, native)["output_config"]["format"]["type"] == "json_schema"
    assert sent("bedrock_converse", text, native)["outputConfig"]["textFormat"]["type"] == "json_schema"
    assert sent("openai_chat", text)["response_format"]["json_schema"]["strict"] is True
    assert sent("anthropic_messages", text)["tool_choice"]["type"] == "tool"


@conversions
def test_a_json_object_is_asked_for(conversion):
    body = {"text": {"format": {"type": "json_object"}}}
    assert "json" in str(sent(conversion, body)).lower()


@pytest.mark.parametrize("form", [{"type": "xml"}, {"type": "json_schema", "name": "x"}])
def test_a_format_that_is_none_is_refused(form):
    assert refusal({"text": {"format": form}}).param == "text.format"


def test_limits_and_sampling_are_carried():
    body = sent("openai_chat", {"max_output_tokens": 100, "temperature": 0.5, "top_p": 0.9, "service_tier": "flex"})
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["service_tier"]) == (100, 0.5, 0.9, "flex")


def test_strict_tools_are_carried_or_named():
    strict = tool(strict=True, parameters={"type": "object", "properties": {}, "additionalProperties": False})
    assert sent("openai_chat", {"tools": [strict]})["tools"][0]["function"]["strict"] is True
    unable = replace(CLAUDE, strict_tools=False)
    assert dropped("anthropic_messages", {"tools": [strict]}, unable) == ["/tools/0/strict"]


def test_an_image_for_a_model_that_sees_none_is_refused():
    blind = Caps(images=False)
    for conversion in TRANSLATORS:
        problem = refusal({"input": [{"role": "user", "content": [IMAGE]}]}, conversion, blind)
        assert problem.param == "input[0].content[0]"


@conversions
def test_an_image_is_carried(conversion):
    assert PNG in str(sent(conversion, {"input": [{"role": "user", "content": [IMAGE]}]}))
