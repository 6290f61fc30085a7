"""Tests of Messages requests that are translated to Converse: every field is sent, refused by an error that names it,
or reported as dropped.
"""

from __future__ import annotations

import base64

import pytest

from gateway.contract.capabilities import Caps
from gateway.contract.errors import Refused
from tests.helpers.messages_to import (
    CACHE,
    CONVERSE,
    DOCUMENT,
    GPT_OSS,
    HAIKU,
    HELLO,
    IMAGE,
    LLAMA,
    MINE,
    MISTRAL,
    NOVA,
    OPUS_4_5,
    OPUS_5,
    PDF,
    assistant,
    called,
    result,
    text,
    tool,
    user,
)
from tests.helpers.samples import PNG

POINT = {"cachePoint": {"type": "default"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}
BUDGET = {"type": "enabled", "budget_tokens": 2000}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}


def sent(model=HAIKU, drops=None, *, stream=False, headers=None, **body):
    return CONVERSE.sent(body, model, drops, stream=stream, headers=headers)


def messages(*conversation, model=HAIKU, **body):
    return sent(model, messages=list(conversation), **body)["messages"]


def dropped(model=HAIKU, *, headers=None, **body):
    return CONVERSE.dropped(body, model, headers=headers)


def fields(model=HAIKU, *, headers=None, **body):
    return sent(model, headers=headers, **body).get("additionalModelRequestFields", {})


def refused(model=HAIKU, **body):
    with pytest.raises(Refused) as raised:
        CONVERSE.unjudged(body, model)
    return raised.value.problem


def test_a_plain_request_is_messages_and_a_limit():
    assert sent(model=HAIKU) == {
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "inferenceConfig": {"maxTokens": 5000},
    }


def test_what_says_nothing_is_not_reported():
    body = {"service_tier": "auto", "speed": "standard", "mcp_servers": [], "tools": []}
    assert dropped(**body, context_management={"edits": []}, stop_sequences=[], system="") == []


@pytest.mark.parametrize(
    "name", ["container", "speed", "inference_geo", "diagnostics", "context_management", "new_member"]
)
def test_a_member_that_converse_has_not_is_dropped_aloud(name):
    assert dropped(**{name: "something"}) == [f"/{name}"]


def test_system_texts_keep_their_marks_and_lose_what_is_blank():
    blocks = [text("A", cache_control=CACHE), text(" "), text("B")]
    assert sent(system=blocks)["system"] == [{"text": "A"}, POINT, {"text": "B"}]


def test_a_model_without_system_prompts_hears_it_from_the_user():
    made = CONVERSE.sent({"system": "S"}, "m", caps=Caps(system=False))
    assert made["messages"][0]["content"] == [{"text": "S"}, {"text": "Hi"}]


def test_a_system_message_in_the_midst_stays_in_its_place():
    history = [HELLO, assistant(text("Yes?")), HELLO, {"role": "system", "content": "Be brief."}]
    assert messages(*history, model=OPUS_5)[3] == {"role": "system", "content": [{"text": "Be brief."}]}
    assert "<system-reminder>" in messages(*history)[2]["content"][1]["text"]


def test_images_and_documents_are_carried_as_bytes():
    document = {**DOCUMENT, "title": "Report 1.pdf", "context": "of May", "citations": {"enabled": True}}
    (message,) = messages(user(text("See"), IMAGE, document))
    assert message["content"][1] == {"image": {"format": "png", "source": {"bytes": PNG}}}
    assert message["content"][2]["document"] == {
        "format": "pdf",
        "name": "Report 1",
        "source": {"bytes": PDF},
        "context": "of May",
        "citations": {"enabled": True},
    }


def test_a_text_document_is_bytes_of_text():
    source = {"type": "text", "media_type": "text/plain", "data": "Hello"}
    (message,) = messages(user({"type": "document", "source": source}))
    inner = message["content"][1]["document"]
    assert (inner["format"], base64.b64decode(inner["source"]["bytes"])) == ("txt", b"Hello")


def test_a_document_of_blocks_stays_one_of_blocks():
    source = {"type": "content", "content": [text("one"), text("two")]}
    (message,) = messages(user(text("See"), {"type": "document", "source": source}))
    assert message["content"][1]["document"]["source"] == {"content": [{"text": "one"}, {"text": "two"}]}


def test_a_document_of_blocks_is_one_text_where_nothing_can_be_cited():
    source = {"type": "content", "content": [text("one"), text("two", cache_control=CACHE)]}
    history = [user(text("See"), {"type": "document", "source": source})]
    inner = messages(*history, model=NOVA)[0]["content"][1]["document"]
    assert base64.b64decode(inner["source"]["bytes"]) == b"one\n\ntwo"
    assert dropped(NOVA, messages=history) == ["/messages/0/content/1/source/content/1/cache_control"]


def test_an_image_that_is_sent_as_a_document_is_refused():
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    problem = refused(messages=[user({"type": "document", "source": source})])
    assert problem.param == "messages[0].content[0].source.data"


def test_citations_of_what_is_no_answer_are_dropped_aloud():
    place = {"cited_text": "c", "document_index": 0, "start_char_index": 1, "end_char_index": 2}
    cited = text("x", citations=[{"type": "char_location", **place}])
    assert dropped(system=[cited], messages=[user(cited)]) == ["/system/0/citations", "/messages/0/content/0/citations"]


def test_a_search_result_is_one_to_claude_and_text_to_others():
    block = {"type": "search_result", "source": "https://a.b", "title": "T", "content": [text("It is so.")]}
    cited = {**block, "citations": {"enabled": True}}
    (message,) = messages(user(cited))
    assert message["content"][0]["searchResult"] == {
        "source": "https://a.b",
        "title": "T",
        "content": [{"text": "It is so."}],
        "citations": {"enabled": True},
    }
    (message,) = messages(user(block), model=NOVA)
    assert message["content"] == [{"text": '<document title="T (https://a.b)">\nIt is so.\n</document>'}]
    assert dropped(NOVA, messages=[user(cited)]) == ["/messages/0/content/0/citations"]


@pytest.mark.parametrize("source", [{"type": "url", "url": "https://a.b/c.png"}, {"type": "file", "file_id": "f"}])
@pytest.mark.parametrize("kind", ["image", "document"])
def test_a_file_that_is_elsewhere_is_refused_by_its_field(kind, source):
    assert refused(messages=[user({"type": kind, "source": source})]).param == "messages[0].content[0].source.type"


def test_own_thinking_comes_first_and_as_it_was():
    thought = {"type": "thinking", "thinking": "T", "signature": MINE}
    hidden = {"type": "redacted_thinking", "data": "irisgate1:claude:YWJj"}
    blocks = messages(HELLO, assistant(thought, hidden, text("So")), HELLO)[1]["content"]
    assert blocks == [
        {"reasoningContent": {"reasoningText": {"text": "T", "signature": MINE.rpartition(":")[2]}}},
        {"reasoningContent": {"redactedContent": base64.b64encode(b"YWJj").decode()}},
        {"text": "So"},
    ]


@pytest.mark.parametrize(
    "thought",
    [
        {"type": "thinking", "thinking": "T", "signature": "irisgate1:openai:x"},
        {"type": "thinking", "thinking": "T", "signature": ""},
        {"type": "redacted_thinking", "data": "irisgate1:openai:x"},
    ],
)
def test_thinking_of_another_family_is_dropped_aloud(thought):
    history = [HELLO, assistant(thought, text("So")), HELLO]
    assert messages(*history)[1]["content"] == [{"text": "So"}]
    assert dropped(messages=history) == ["/messages/1/content/0"]


def test_a_model_that_signs_nothing_gets_no_thinking_back():
    history = [HELLO, assistant({"type": "thinking", "thinking": "T", "signature": MINE}, text("So")), HELLO]
    assert dropped(NOVA, messages=history) == ["/messages/1/content/0"]


def test_parallel_results_share_one_turn_and_say_how_they_went():
    history = [HELLO, called("a", "b"), user(result("b", [text("2")], is_error=True)), user(result("a", "1"))]
    (turn,) = messages(*history, tools=[tool()])[2:]
    assert [block["toolResult"]["status"] for block in turn["content"]] == ["error", "success"]


def test_a_result_holds_text_images_documents_and_search_results():
    source = {"type": "search_result", "source": "s", "title": "T", "content": [text("x")]}
    content = [text("t"), IMAGE, DOCUMENT, source, {"type": "tool_reference", "tool_name": "look"}]
    history = [HELLO, called("a"), user(result("a", content))]
    blocks = messages(*history, tools=[tool()])[2]["content"][0]["toolResult"]["content"]
    assert [next(iter(block)) for block in blocks] == ["text", "image", "document", "searchResult", "text"]


@pytest.mark.parametrize("content", [None, "", [], [text(" ")]])
def test_an_empty_result_says_so(content):
    history = [HELLO, called("a"), user(result("a", content, is_error=True))]
    assert messages(*history, tools=[tool()])[2]["content"][0]["toolResult"]["content"] == [{"text": "(no output)"}]


def test_a_call_without_a_result_gets_one():
    blocks = messages(HELLO, called("a"), HELLO, tools=[tool()])[2]["content"]
    assert blocks[0]["toolResult"]["status"] == "error"


def test_a_result_without_its_call_is_refused_by_its_field():
    problem = refused(messages=[HELLO, called("a"), user(result("a")), HELLO, user(result("x"))])
    assert problem.param == "messages[4].content[0].tool_use_id"


def test_citations_of_an_earlier_answer_go_back():
    place = {"cited_text": "c", "document_index": 0, "document_title": "t"}
    citations = [
        {"type": "char_location", **place, "start_char_index": 1, "end_char_index": 2},
        {"type": "page_location", **place, "start_page_number": 1, "end_page_number": 2},
        {"type": "content_block_location", **place, "start_block_index": 0, "end_block_index": 1},
        {
            "type": "search_result_location",
            "cited_text": "c",
            "source": "s",
            "title": "t",
            "search_result_index": 0,
            "start_block_index": 0,
            "end_block_index": 1,
        },
        {
            "type": "web_search_result_location",
            "cited_text": "c",
            "url": "https://a.b",
            "title": "t",
            "encrypted_index": "",
        },
    ]
    (block,) = messages(HELLO, assistant(text("So", citations=citations)), HELLO)[1]["content"]
    content = block["citationsContent"]
    assert content["content"] == [{"text": "So"}]
    assert [next(iter(citation["location"])) for citation in content["citations"]] == [
        "documentChar",
        "documentPage",
        "documentChunk",
        "searchResultLocation",
        "web",
    ]
    assert content["citations"][0]["location"]["documentChar"] == {"documentIndex": 0, "start": 1, "end": 2}


def test_a_tool_keeps_its_text_schema_and_mark():
    offered = tool(description="d", cache_control={"type": "ephemeral", "ttl": "1h"}, strict=True)
    assert sent(tools=[offered, tool("other", description=" ")])["toolConfig"]["tools"] == [
        {
            "toolSpec": {
                "name": "look",
                "description": "d",
                "inputSchema": {"json": {"type": "object", "properties": {}, "additionalProperties": False}},
                "strict": True,
            }
        },
        HOUR,
        {"toolSpec": {"name": "other", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
    ]


def test_strict_is_dropped_aloud_where_the_model_refuses_it():
    assert dropped(OPUS_5, tools=[tool(strict=True)]) == ["/tools/0/strict"]


@pytest.mark.parametrize("name", ["defer_loading", "input_examples", "custom"])
def test_a_tools_member_that_converse_has_not_is_dropped_aloud(name):
    assert dropped(tools=[tool(**{name: [True]})]) == [f"/tools/0/{name}"]


@pytest.mark.parametrize("kind", ["web_search_20250305", "code_execution_20250825", "bash_20250124", "mcp_toolset"])
def test_a_tool_of_anthropics_own_is_refused_by_its_name(kind):
    problem = refused(tools=[tool(), {"type": kind, "name": "it"}])
    assert problem.message.startswith('tools[1]: the tool "it" of type')


@pytest.mark.parametrize(
    ("choice", "config", "extra"),
    [
        ({"type": "auto"}, None, {}),
        ({"type": "any"}, {"any": {}}, {}),
        ({"type": "tool", "name": "look"}, {"tool": {"name": "look"}}, {}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            None,
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        ({"type": "any", "disable_parallel_tool_use": True}, {"any": {}}, {"disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_among_tools_is_carried(choice, config, extra):
    made = sent(tools=[tool()], tool_choice=choice)
    assert made["toolConfig"].get("toolChoice") == config
    assert made.get("additionalModelRequestFields", {}).get("tool_choice", {}) == extra


def test_what_only_claude_can_be_told_of_calls_is_dropped_aloud_elsewhere():
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert dropped(NOVA, tools=[tool()], tool_choice=choice) == ["/tool_choice/disable_parallel_tool_use"]
    assert dropped(LLAMA, tools=[tool()], tool_choice={"type": "any"}) == ["/tool_choice"]


def test_no_tool_is_to_be_called_with_a_history_of_calls():
    history = [HELLO, called("a"), user(result("a"))]
    made = sent(messages=history, tools=[tool()], tool_choice={"type": "none"})
    assert made["additionalModelRequestFields"]["tool_choice"] == {"type": "none"}
    assert "toolConfig" in sent(messages=history)


def test_a_name_that_is_no_name_is_replaced_wherever_it_stands():
    name = "mcp." + "x" * 80
    made = sent(messages=[HELLO, called("a", name=name), user(result("a"))], tools=[tool(name)])
    (spec,) = made["toolConfig"]["tools"]
    assert made["messages"][1]["content"][0]["toolUse"]["name"] == spec["toolSpec"]["name"] != name


def test_marks_become_points_with_their_lifetime():
    long = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
    drops = []
    made = sent(HAIKU, drops, system=[text("S", cache_control=long)], messages=[user(text("Hi", cache_control=CACHE))])
    assert made["system"][1] == HOUR
    assert made["messages"][0]["content"][1] == POINT
    assert drops == ["/system/0/cache_control/scope"]


def test_marks_on_calls_and_in_results_become_points_behind_them():
    inner = [text("1", cache_control=CACHE), text("2", cache_control=CACHE)]
    history = [HELLO, called("a", cache_control=CACHE), user(result("a", inner))]
    made = messages(*history, tools=[tool()])
    assert [next(iter(block)) for block in made[1]["content"]] == ["toolUse", "cachePoint"]
    assert [next(iter(block)) for block in made[2]["content"]] == ["toolResult", "cachePoint"]
    assert dropped(messages=history, tools=[tool()]) == ["/messages/2/content/0/content/0/cache_control"]


def test_a_mark_on_the_whole_is_one_on_its_last_block():
    assert messages(user(text("a"), text("b")), cache_control=CACHE)[0]["content"][-1] == POINT
    marked = messages(user(text("a", cache_control=CACHE)), cache_control=CACHE)
    assert marked[0]["content"] == [{"text": "a"}, POINT]


def test_of_too_many_marks_the_earliest_are_dropped_aloud():
    marked = [user(*(text(str(number), cache_control=CACHE) for number in range(4)))]
    system = [text("S", cache_control=CACHE)]
    assert dropped(system=system, messages=marked) == ["/messages/0/content/0/cache_control"]


def test_marks_that_the_model_has_not_are_dropped_aloud():
    body = {"system": [text("S", cache_control=CACHE)], "tools": [tool(cache_control=CACHE)], "cache_control": CACHE}
    assert dropped(LLAMA, **body) == ["/system/0/cache_control", "/cache_control", "/tools/0/cache_control"]


def test_sampling_and_stops_are_carried():
    made = sent(NOVA, temperature=0.5, top_p=0.9, top_k=20, stop_sequences=["END", ""])
    assert made["inferenceConfig"] == {
        "maxTokens": 5000,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["END"],
    }
    assert made["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 20}}


def test_sampling_that_the_model_refuses_is_dropped_aloud():
    assert dropped(OPUS_5, temperature=0.5, top_k=3) == ["/temperature", "/top_k"]
    assert dropped(HAIKU, temperature=0.5, top_p=0.9) == ["/top_p"]


@pytest.mark.parametrize(("stream", "path"), [(False, "/stop_sequence"), (True, "/delta/stop_sequence")])
def test_defect_35_the_stop_sequence_that_was_met_is_asked_for(stream, path):
    made = sent(stream=stream, stop_sequences=["END"])
    assert made["additionalModelResponseFieldPaths"] == [path]


def test_thinking_is_carried_in_the_models_own_form():
    assert fields(thinking=BUDGET) == {"thinking": BUDGET}
    adaptive = {"type": "adaptive", "display": "omitted"}
    request = fields(OPUS_5, thinking=adaptive, output_config={"effort": "xhigh"})
    assert request == {"thinking": adaptive, "output_config": {"effort": "xhigh"}}
    assert fields(GPT_OSS, thinking=BUDGET) == {"reasoning_effort": "low"}


def test_thinking_that_is_off_is_not_asked_for():
    assert fields(thinking={"type": "disabled"}) == {}
    assert dropped(thinking={"type": "disabled"}) == []


def test_thinking_between_tools_is_thinking_that_is_reported():
    drops = []
    made = sent(OPUS_5, drops, thinking={"type": "between_tools"})
    assert made["additionalModelRequestFields"]["thinking"]["type"] == "adaptive"
    assert drops == ["/thinking/type"]


def test_an_effort_alone_does_not_make_a_claude_think():
    assert fields(OPUS_5, output_config={"effort": "max"}) == {"output_config": {"effort": "max"}}
    assert dropped(HAIKU, output_config={"effort": "max"}) == ["/output_config/effort"]


def test_an_effort_that_needs_a_beta_brings_it():
    request = fields(OPUS_4_5, thinking=BUDGET, output_config={"effort": "low"})
    assert request["output_config"] == {"effort": "low"}
    assert request["anthropic_beta"] == ["effort-2025-11-24"]
    assert request["thinking"] == BUDGET


def test_an_effort_alone_makes_other_families_think():
    assert fields(GPT_OSS, output_config={"effort": "high"}) == {"reasoning_effort": "high"}


def test_calls_that_lost_their_thinking_drop_the_budget():
    """Check that a client's thinking budget is dropped if the tool calls in the history have lost their thinking."""
    history = [HELLO, called("a"), user(result("a"))]
    assert dropped(messages=history, tools=[tool()], thinking=BUDGET) == ["/thinking"]


@pytest.mark.parametrize("body", [{"output_config": FORMAT}, {"output_format": FORMAT["format"]}])
def test_an_answers_format_is_native_where_the_model_has_it(body):
    made = sent(HAIKU, **body)
    text_format = made["outputConfig"]["textFormat"]
    assert '"additionalProperties":false' in text_format["structure"]["jsonSchema"]["schema"]


def test_an_answers_format_is_a_tool_where_the_model_has_none():
    translation = CONVERSE.unjudged({"output_config": FORMAT}, NOVA)
    body = translation.request.top.decode("toolConfig")
    assert body["toolChoice"] == {"tool": {"name": "json_output"}}
    assert sent(NOVA, output_config=FORMAT, tools=[tool()])["toolConfig"]["toolChoice"] == {"any": {}}


def test_an_answers_format_is_a_hint_where_no_tool_can_be_forced():
    drops = []
    made = sent(LLAMA, drops, output_config=FORMAT)
    assert "json_output" in made["system"][0]["text"]
    made = sent(NOVA, drops, output_config=FORMAT, tools=[tool()], tool_choice={"type": "any"})
    assert "JSON schema" in made["system"][0]["text"]
    assert drops == ["/output_config/format/schema"]


@pytest.mark.parametrize(("tier", "made"), [("auto", None), ("standard_only", None), ("flex", {"type": "flex"})])
def test_the_tier_is_bedrocks_or_none(tier, made):
    assert sent(service_tier=tier).get("serviceTier") == made


def test_converses_betas_go_into_the_body_and_others_are_dropped():
    """Check that betas that Converse accepts are put into the body, and that others are reported as dropped."""
    headers = {"anthropic-beta": "context-1m-2025-08-07,claude-code-20250219"}
    assert fields(headers=headers) == {"anthropic_beta": ["context-1m-2025-08-07"]}
    assert dropped(headers=headers) == ["/anthropic-beta/claude-code-20250219"]
    assert fields(NOVA, headers=headers) == {}


def test_a_last_assistant_is_continued_where_the_model_can():
    history = [HELLO, assistant(text("So "))]
    assert messages(*history)[-1] == {"role": "assistant", "content": [{"text": "So"}]}
    assert messages(*history, model=OPUS_5)[-1]["role"] == "user"


@pytest.mark.parametrize("model", [LLAMA, MISTRAL])
def test_results_stand_alone_where_the_model_wants_them_so(model):
    history = [HELLO, called("toolu_1"), user(result("toolu_1"), text("go"))]
    assert [message["role"] for message in messages(*history, model=model, tools=[tool()])][2:] == [
        "user",
        "assistant",
        "user",
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [user({"type": "text", "text": 1})]}, "messages[0].content[0].text"),
        ({"messages": [user(text("x", cache_control="yes"))]}, "messages[0].content[0].cache_control"),
        ({"messages": [user({"type": "thinking"})]}, "messages[0].content[0].type"),
        ({"system": [IMAGE]}, "system[0].type"),
        ({"system": 3}, "system"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"temperature": "hot"}, "temperature"),
        ({"thinking": {"type": "much"}}, "thinking"),
        ({"output_config": {"effort": "some"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [tool()], "tool_choice": {"type": "tool", "name": "no"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"service_tier": "gold"}, "service_tier"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_field(body, param):
    assert refused(**body).param == param


def test_tools_for_a_model_without_are_refused():
    assert refused("us.deepseek.r1-v1:0", tools=[tool()]).param == "tools"
