"""Tests of Converse requests that are translated to Chat: every field is sent, refused, or reported as dropped."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.contract.capabilities import capabilities
from tests.helpers.converse_to import (
    CHAT,
    DOCUMENT,
    FORMAT,
    GPT,
    HELLO,
    IMAGE,
    MINE,
    PDF,
    POINT,
    SCHEMA,
    THINKER,
    TOOL,
    TOOLS,
    assistant,
    blob,
    call,
    result,
    system,
    user,
)
from tests.helpers.samples import PNG

CAPS = capabilities(GPT)


def extra(**fields):
    return {"additionalModelRequestFields": fields}


def parts(*blocks):
    (message,) = CHAT.messages(user(*blocks))
    return message["content"]


def test_the_body_has_the_providers_model_and_stream_options():
    """Check that the body names the provider's model, and that a streamed request asks the provider to report the
    usage.
    """
    assert CHAT.sent({}) == {"model": GPT, "messages": [{"role": "user", "content": "Hi"}]}
    sent = CHAT.sent({}, stream=True)
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})


def test_instructions_are_system_messages_where_they_stand():
    given = {"system": [{"text": "a"}, {"text": "b"}], "messages": [HELLO, system({"text": "c"}), HELLO]}
    turns = [(message["role"], message["content"]) for message in CHAT.sent(given)["messages"]]
    assert turns == [("system", "a\n\nb"), ("user", "Hi"), ("system", "c"), ("user", "Hi")]


def test_instructions_that_are_no_text_are_refused():
    image = {"guardContent": {"image": {"format": "png", "source": {"bytes": PNG}}}}
    assert CHAT.refusal({"system": [{"text": "a"}, image]}).param == "system[1].guardContent.image"


def test_files_are_parts():
    sound = {"audio": {"format": "mpeg", "source": {"bytes": blob("sound")}}}
    assert parts({"text": "a"}, IMAGE, DOCUMENT, sound) == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "file", "file": {"filename": "paper.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
        {"type": "input_audio", "input_audio": {"data": blob("sound"), "format": "mp3"}},
    ]


def test_a_document_of_text_is_text_behind_what_is_said_of_it():
    document = {"name": "n", "source": {"content": [{"text": "one"}, {"text": "two"}]}, "context": "of 2020"}
    assert parts({"document": document}) == [
        {"type": "text", "text": "of 2020"},
        {"type": "text", "text": '<document title="n">\none\ntwo\n</document>'},
    ]


def test_a_search_result_is_text():
    given = {"source": "s", "title": "t", "content": [{"text": "found"}]}
    assert parts({"searchResult": given}) == "t (s)\nfound"


def test_wishes_for_citations_and_citations_are_dropped_aloud():
    document = {"document": {**DOCUMENT["document"], "citations": {"enabled": True}}}
    answer = {"content": [{"text": "So"}], "citations": [{"location": {"web": {"url": "https://example.com"}}}]}
    body = {"messages": [user(document, {"text": "Hi"}), assistant({"citationsContent": answer}), HELLO]}
    assert CHAT.sent(body)["messages"][1]["content"] == "So"
    assert CHAT.dropped(body) == [
        "/messages/0/content/0/document/citations",
        "/messages/1/content/0/citationsContent/citations",
    ]


def test_results_follow_their_calls_and_other_text_follows():
    """Check that tool results come directly after their calls, and other text of the turn after the results."""
    history = [HELLO, assistant({"text": "So"}, call(city="Bern")), user({"text": "And?"}, result({"json": {"a": 1}}))]
    _, called, answered, text = CHAT.messages(*history, **TOOLS)
    assert called == {
        "role": "assistant",
        "content": "So",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"city":"Bern"}'}}],
    }
    assert answered == {"role": "tool", "tool_call_id": "a", "content": '{"a":1}'}
    assert text == {"role": "user", "content": "And?"}


def test_an_error_is_said_in_words():
    history = [HELLO, assistant(call()), user(result({"text": "no such city"}, status="error"))]
    assert CHAT.messages(*history, **TOOLS)[2]["content"] == "Error: no such city"


def test_files_of_a_result_follow_in_a_message_of_their_own():
    history = [HELLO, assistant(call()), user(result({"text": "x"}, IMAGE))]
    _, _, answered, files = CHAT.messages(*history, **TOOLS)
    assert answered["role"] == "tool"
    assert files["content"][-1]["type"] == "image_url"


def test_what_another_providers_own_tool_did_is_dropped_aloud():
    run = {"toolUse": {"toolUseId": "s", "name": "nova_code_interpreter", "input": {}, "type": "server_tool_use"}}
    ran = {"toolResult": {"toolUseId": "s", "content": [{"json": {}}]}}
    body = {"messages": [HELLO, assistant(run, ran, {"text": "42"}), HELLO]}
    assert CHAT.sent(body)["messages"][1] == {"role": "assistant", "content": "42"}
    assert CHAT.dropped(body) == ["/messages/1/content/0/toolUse", "/messages/1/content/1/toolResult"]


@pytest.mark.parametrize(
    "thought",
    [{"reasoningText": {"text": "Hm.", "signature": MINE}}, {"redactedContent": blob("irisgate1:claude:ZW5j")}],
)
def test_thinking_of_another_family_is_dropped_aloud(thought):
    body = {"messages": [HELLO, assistant({"reasoningContent": thought}, {"text": "Hi"}), HELLO]}
    assert CHAT.sent(body)["messages"][1] == {"role": "assistant", "content": "Hi"}
    (path,) = CHAT.dropped(body)
    assert path.startswith("/messages/1/content/0/reasoningContent")


def test_thinking_goes_back_as_text_to_models_that_read_it():
    caps = replace(CAPS, family="deepseek", reasoning_content=True)
    thought = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "irisgate1:deepseek:"}}}
    body = {"messages": [HELLO, assistant(thought, {"text": "Hi"}), HELLO]}
    assert json.loads(CHAT.open(body, caps, judged=False)[0].request.top.body)["messages"][1] == {
        "role": "assistant",
        "content": "Hi",
        "reasoning_content": "Hm.",
    }


def test_cache_points_are_dropped_aloud():
    body = {
        "system": [{"text": "a"}, POINT],
        "messages": [user({"text": "a"}, POINT)],
        "toolConfig": {"tools": [TOOL, POINT]},
    }
    assert CHAT.dropped(body) == [
        "/system/1/cachePoint",
        "/messages/0/content/1/cachePoint",
        "/toolConfig/tools/1/cachePoint",
    ]


def test_tools_that_went_in_the_midst_are_not_offered_any_more():
    other = {"toolSpec": {"name": "find", "inputSchema": {"json": SCHEMA}}}
    gone = [{"toolRemoval": {"tool": {"name": name}}} for name in ("look", "find")]
    back = {"toolAddition": {"tool": {"name": "find"}}}
    body = {"messages": [user(*gone, {"text": "a"}), user(back, {"text": "b"})]}
    sent = CHAT.sent(body | {"toolConfig": {"tools": [TOOL, other]}})
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["find"]


def test_a_tool_of_an_mcp_server_is_not_ours_to_offer():
    change = {"toolAddition": {"tool": {"type": "mcp_tool_reference", "name": "find", "serverName": "files"}}}
    assert CHAT.dropped({"messages": [user(change, {"text": "a"})]}) == ["/messages/0/content/0/toolAddition"]


@pytest.mark.parametrize(
    ("block", "field"),
    [
        (IMAGE, "messages[1].content[0].image"),
        (result({"text": "x"}), "messages[1].content[0].toolResult"),
    ],
)
def test_what_no_assistant_says_in_chat_is_refused(block, field):
    assert CHAT.refusal({"messages": [HELLO, assistant(block), HELLO]}).param == field


def test_a_call_by_the_user_is_refused():
    assert CHAT.refusal({"messages": [user(call())]}).param == "messages[0].content[0].toolUse"


@pytest.mark.parametrize(
    ("choice", "fields", "carried"),
    [
        ({"auto": {}}, {}, None),
        ({"any": {}}, {}, "required"),
        ({"tool": {"name": "look"}}, {}, {"type": "function", "function": {"name": "look"}}),
        (None, {"tool_choice": {"type": "none"}}, "none"),
    ],
)
def test_a_choice_among_tools_is_carried(choice, fields, carried):
    config = {"tools": [TOOL]} | ({"toolChoice": choice} if choice else {})
    assert CHAT.sent({"toolConfig": config, **extra(**fields)}).get("tool_choice") == carried


def test_one_call_at_a_time_is_carried():
    fields = extra(tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert CHAT.sent(TOOLS | fields)["parallel_tool_calls"] is False


def test_the_inference_config_is_carried():
    config = {"maxTokens": 7, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]}
    sent = CHAT.sent({"inferenceConfig": config})
    assert (sent["temperature"], sent["top_p"], sent["stop"]) == (0.5, 0.9, ["END"])
    assert 7 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))


def test_more_than_four_stop_sequences_and_a_top_k_are_dropped_aloud():
    body = {"inferenceConfig": {"stopSequences": list("abcde")}, **extra(top_k=3)}
    assert CHAT.dropped(body) == ["/additionalModelRequestFields/top_k", "/inferenceConfig/stopSequences"]


@pytest.mark.parametrize(
    "body",
    [
        {"outputConfig": {"effort": "low"}},
        extra(reasoning_effort="low"),
        extra(reasoning={"effort": "low"}),
        extra(thinking={"type": "adaptive"}, output_config={"effort": "low"}),
    ],
)
def test_an_effort_in_any_form_is_chats(body):
    assert THINKER.sent(body)["reasoning_effort"] == "low"


def test_thinking_is_dropped_aloud_for_models_that_do_not_think():
    body = extra(thinking={"type": "enabled", "budget_tokens": 2000})
    assert CHAT.dropped(body) == ["/additionalModelRequestFields/thinking"]


def test_a_json_schema_is_the_response_format():
    sent = CHAT.sent({"outputConfig": FORMAT})
    assert sent["response_format"]["json_schema"]["name"] == "place"
    assert sent["response_format"]["json_schema"]["schema"]["required"] == ["city"]


def test_elsewhere_a_json_schema_is_a_function_that_must_be_called():
    sent = CHAT.sent({"outputConfig": FORMAT}, replace(CAPS, json_schema=False))
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "json_output"}}


def test_members_of_chat_are_carried_from_the_extra_fields():
    fields = {"seed": 7, "frequency_penalty": 0.5, "logit_bias": {"1": 2}, "verbosity": "low"}
    sent = CHAT.sent(extra(**fields))
    assert {name: sent[name] for name in fields} == fields


def test_members_of_claudes_alone_are_dropped_aloud():
    fields = {"anthropic_beta": ["a", "b"], "context_management": {"edits": []}}
    assert CHAT.dropped(extra(**fields)) == [
        "/additionalModelRequestFields/context_management",
        "/additionalModelRequestFields/anthropic_beta/0",
        "/additionalModelRequestFields/anthropic_beta/1",
    ]


def test_tools_of_anthropics_own_are_refused():
    body = extra(tools=[{"type": "bash_20250124", "name": "bash"}])
    assert CHAT.refusal(body).param == "additionalModelRequestFields.tools"


@pytest.mark.parametrize(
    ("tier", "drops"), [("priority", []), ("flex", []), ("default", []), ("reserved", ["/serviceTier"])]
)
def test_a_tier_is_carried_where_openai_has_it(tier, drops):
    body = {"serviceTier": {"type": tier}}
    assert CHAT.dropped(body) == drops
    assert CHAT.sent(body).get("service_tier") == (None if drops else tier)


def test_what_is_for_aws_alone_is_dropped_aloud_or_refused():
    body = {"requestMetadata": {"a": "b"}, "performanceConfig": {"latency": "optimized"}, "projectIdentifier": "p"}
    assert CHAT.dropped(body) == ["/requestMetadata", "/performanceConfig", "/projectIdentifier"]
    assert CHAT.refusal({"guardrailConfig": {"guardrailIdentifier": "g"}}).param == "guardrailConfig"
    assert CHAT.refusal({"promptVariables": {"a": {"text": "b"}}}).param == "promptVariables"
