"""Tests of Messages requests that are translated to Chat: every field is sent, refused by an error that names it, or
reported as dropped.
"""

from __future__ import annotations

import pytest

from gateway.contract.capabilities import Caps
from gateway.contract.errors import Refused
from tests.helpers.messages_to import (
    CACHE,
    CHAT,
    DEEPSEEK,
    DOCUMENT,
    GPT,
    GPT_4O,
    GPT_OSS,
    HELLO,
    IMAGE,
    MINE,
    PDF,
    assistant,
    called,
    result,
    text,
    tool,
    user,
)
from tests.helpers.samples import PNG

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
CLOSED = {**SCHEMA, "additionalProperties": False}


def format_(schema):
    return {"format": {"type": "json_schema", "schema": schema}}


def sent(model=GPT_4O, drops=None, *, stream=False, headers=None, **body):
    return CHAT.sent(body, model, drops, stream=stream, headers=headers)


def messages(*conversation, model=GPT_4O, **body):
    return sent(model, messages=list(conversation), **body)["messages"]


def dropped(model=GPT_4O, *, headers=None, **body):
    return CHAT.dropped(body, model, headers=headers)


def refused(model=GPT_4O, **body):
    with pytest.raises(Refused) as raised:
        CHAT.unjudged(body, model)
    return raised.value.problem


def test_a_plain_request_is_messages_and_a_limit():
    assert sent() == {"model": GPT_4O, "messages": [HELLO], "max_tokens": 5000}


def test_a_stream_always_asks_for_its_usage():
    made = sent(stream=True)
    assert (made["stream"], made["stream_options"]) == (True, {"include_usage": True})


def test_the_limit_has_the_name_that_the_model_takes():
    assert "max_completion_tokens" in sent(GPT)


def test_system_texts_are_one_message_and_later_ones_stay_in_their_place():
    made = messages(HELLO, {"role": "system", "content": "Be brief."}, system=[text("A"), text(" "), text("B")])
    assert made == [
        {"role": "system", "content": "A\n\nB"},
        HELLO,
        {"role": "system", "content": "Be brief."},
    ]


def test_images_and_documents_are_parts():
    (message,) = messages(user(text("See"), IMAGE, {**DOCUMENT, "title": "R"}))
    assert message["content"] == [
        text("See"),
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "file", "file": {"filename": "R.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
    ]


def test_documents_of_text_and_search_results_are_text():
    source = {"type": "content", "content": [text("one"), text("two")]}
    block = {"type": "search_result", "source": "s", "title": "T", "content": [text("so")]}
    (message,) = messages(user({"type": "document", "source": source, "title": "D"}, block))
    assert [part["text"] for part in message["content"]] == [
        '<document title="D">\none\n\ntwo\n</document>',
        '<document title="T (s)">\nso\n</document>',
    ]


def test_what_chat_cannot_say_of_a_document_is_dropped_aloud():
    document = {**DOCUMENT, "context": "of May", "citations": {"enabled": True}, "cache_control": CACHE}
    at = "/messages/0/content/0"
    assert sorted(dropped(messages=[user(document)])) == [f"{at}/cache_control", f"{at}/citations", f"{at}/context"]


def test_calls_and_results_stay_pairs():
    history = [HELLO, called("a", "b"), user(result("b", "2", is_error=True), result("a", [text("1")]), text("go"))]
    made = messages(*history, tools=[tool()])
    assert [message["role"] for message in made] == ["user", "assistant", "tool", "tool", "user"]
    assert [message["content"] for message in made[2:]] == ["Error: 2", "1", "go"]


def test_thinking_goes_back_as_text_to_a_model_that_reads_it():
    caps = Caps(family="f", reasoning_content=True)
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "irisgate1:f:"}
    history = {"messages": [HELLO, assistant(thought, *called("a")["content"]), user(result("a"))]}
    drops = []
    made = CHAT.sent(history, "m", drops, caps=caps)
    assert made["messages"][1]["reasoning_content"] == "Hm."
    assert drops == []


@pytest.mark.parametrize(
    "thought",
    [
        {"type": "thinking", "thinking": "Hm.", "signature": MINE},
        {"type": "thinking", "thinking": "Hm.", "signature": "of nobody knows whom"},
        {"type": "redacted_thinking", "data": "irisgate1:claude:YWJj"},
    ],
)
@pytest.mark.parametrize("model", [GPT, DEEPSEEK])
def test_thinking_of_another_family_is_dropped_aloud(thought, model):
    history = [HELLO, assistant(thought, text("So")), HELLO]
    assert dropped(model, messages=history) == ["/messages/1/content/0"]


def test_tools_are_functions():
    made = sent(tools=[tool(description="d"), tool("other", description=" ")], tool_choice={"type": "any"})
    empty = {"type": "object", "properties": {}}
    assert made["tools"] == [
        {"type": "function", "function": {"name": "look", "description": "d", "parameters": empty}},
        {"type": "function", "function": {"name": "other", "parameters": empty}},
    ]
    assert made["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ({"type": "auto"}, {}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "look"}, {"tool_choice": {"type": "function", "function": {"name": "look"}}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"parallel_tool_calls": False}),
    ],
)
def test_the_choice_among_tools_is_carried(choice, made):
    request = sent(tools=[tool()], tool_choice=choice)
    assert {name: request[name] for name in ("tool_choice", "parallel_tool_calls") if name in request} == made


def test_strict_is_kept_for_a_schema_that_openai_can_keep_to():
    strict = {"name": "look", "strict": True}
    assert sent(tools=[{**strict, "input_schema": CLOSED}])["tools"][0]["function"]["strict"] is True
    for other in (SCHEMA, {**CLOSED, "properties": {"n": {"oneOf": []}}}, {**CLOSED, "required": []}):
        assert dropped(tools=[{**strict, "input_schema": other}]) == ["/tools/0/strict"]


def test_a_name_that_is_no_name_is_replaced_wherever_it_stands():
    name = "mcp." + "x" * 80
    history = [HELLO, called("a", name=name), user(result("a"))]
    made = sent(messages=history, tools=[tool(name)], tool_choice={"type": "tool", "name": name})
    (offered,) = made["tools"]
    assert made["messages"][1]["tool_calls"][0]["function"]["name"] == offered["function"]["name"]
    assert made["tool_choice"]["function"]["name"] == offered["function"]["name"]


def test_marks_are_dropped_aloud():
    body = {"system": [text("S", cache_control=CACHE)], "tools": [tool(cache_control=CACHE)], "cache_control": CACHE}
    history = [HELLO, called("a"), user(result("a", [text("x", cache_control=CACHE)]))]
    assert sorted(dropped(**body, messages=history)) == [
        "/cache_control",
        "/messages/2/content/0/content/0/cache_control",
        "/system/0/cache_control",
        "/tools/0/cache_control",
    ]


def test_sampling_and_stops_are_carried_as_far_as_chat_has_them():
    drops = []
    made = sent(GPT_4O, drops, temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["a", "b", "c", "d", "e"])
    assert (made["temperature"], made["top_p"], made["stop"]) == (0.5, 0.9, ["a", "b", "c", "d"])
    assert drops == ["/top_k", "/stop_sequences"]


def test_thinking_is_an_effort_where_the_model_has_one():
    thinking = {"type": "enabled", "budget_tokens": 1024}
    assert sent(GPT, thinking=thinking)["reasoning_effort"] == "low"
    assert sent(GPT, thinking={"type": "adaptive"})["reasoning_effort"] == "high"
    assert sent(GPT, output_config={"effort": "max"})["reasoning_effort"] == "xhigh"
    assert sent(GPT, thinking={"type": "disabled"})["reasoning_effort"] == "none"


def test_thinking_is_dropped_aloud_where_the_model_has_none():
    assert dropped(thinking={"type": "adaptive"}, output_config={"effort": "low"}) == [
        "/thinking",
        "/output_config/effort",
    ]


def test_a_claude_behind_chat_is_asked_to_think_in_chats_word():
    claude = "claude-opus-5"
    thinking = {"type": "adaptive"}
    assert sent(claude, thinking=thinking, output_config={"effort": "low"})["reasoning_effort"] == "low"
    assert sent(claude, thinking=thinking)["reasoning_effort"] == "high"
    assert dropped(claude, output_config={"effort": "low"}) == ["/output_config/effort"]


@pytest.mark.parametrize(("schema", "strict"), [(CLOSED, True), (SCHEMA, False)])
def test_an_answers_format_is_native_where_the_model_has_it(schema, strict):
    made = sent(output_config=format_(schema))["response_format"]
    assert made == {"type": "json_schema", "json_schema": {"name": "json_output", "schema": schema, "strict": strict}}


def test_an_answers_format_is_a_tool_elsewhere():
    made = sent(GPT_OSS, output_config=format_(SCHEMA))
    assert made["tool_choice"] == {"type": "function", "function": {"name": "json_output"}}
    made = sent(GPT_OSS, output_config=format_(SCHEMA), tools=[tool("json_output")])
    assert [offered["function"]["name"] for offered in made["tools"]] == ["json_output", "json_output_"]
    assert made["tool_choice"] == "required"


def test_an_answers_format_is_a_hint_where_another_tool_is_demanded():
    drops = []
    made = sent(GPT_OSS, drops, system="S", output_config=format_(SCHEMA), tools=[tool()], tool_choice={"type": "any"})
    assert made["messages"][0]["content"].startswith("S\n\nAnswer with one JSON object")
    assert drops == ["/output_config/format/schema"]


@pytest.mark.parametrize(("tier", "made"), [("auto", None), ("standard_only", None), ("priority", "priority")])
def test_the_tier_is_openais_or_none(tier, made):
    assert sent(service_tier=tier).get("service_tier") == made


def test_betas_are_dropped_aloud():
    assert dropped(headers={"anthropic-beta": "a-1,b-2"}) == ["/anthropic-beta/a-1", "/anthropic-beta/b-2"]


def test_what_says_nothing_is_not_reported():
    assert dropped(service_tier="auto", thinking={"type": "disabled"}) == []


@pytest.mark.parametrize("name", ["container", "speed", "context_management", "new_member"])
def test_a_member_that_chat_has_not_is_dropped_aloud(name):
    assert dropped(**{name: "something"}) == [f"/{name}"]


def test_a_file_for_a_model_that_sees_none_is_refused_by_its_field():
    assert refused(GPT_OSS, messages=[user(IMAGE)]).param == "messages[0].content[0]"


def test_a_tool_of_anthropics_own_is_refused_by_its_name():
    assert 'the tool "w" of type' in refused(tools=[{"type": "web_search_20250305", "name": "w"}]).message


def test_tools_for_a_model_without_are_refused():
    assert refused("us.deepseek.r1-v1:0", tools=[tool()]).param == "tools"
