"""Tests of messages of Converse requests that are translated to Messages: each block is sent, refused, or reported as
dropped.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.contract.capabilities import capabilities
from tests.helpers.converse_to import (
    ADAPTIVE,
    DOCUMENT,
    HAIKU,
    HELLO,
    IMAGE,
    MESSAGES,
    MINE,
    PDF,
    TOOLS,
    assistant,
    blob,
    call,
    result,
    system,
    user,
)
from tests.helpers.samples import PNG

CAPS = capabilities(HAIKU)


def only(*blocks, **more):
    """Return the content of the Messages request for a Converse request with one user message, which has these blocks."""
    (message,) = MESSAGES.messages(user(*blocks), **more)
    return message["content"]


# messages


def test_the_body_names_the_providers_model_and_a_limit():
    body = MESSAGES.sent({})
    assert (body["model"], body["max_tokens"]) == (HAIKU, CAPS.max_output)
    assert "stream" not in body
    assert MESSAGES.sent({}, stream=True)["stream"] is True


def test_the_models_name_in_the_body_is_no_loss():
    assert MESSAGES.dropped({"modelId": "m"}) == []


def test_texts_and_images_keep_their_order():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert only({"text": "a"}, IMAGE, {"text": "b"}) == [
        {"type": "text", "text": "a"},
        image,
        {"type": "text", "text": "b"},
    ]


def test_an_image_is_what_its_bytes_say_it_is():
    (block,) = only({"image": {"format": "jpeg", "source": {"bytes": PNG}}})
    assert block["source"]["media_type"] == "image/png"


def test_a_pdf_keeps_its_name_context_and_wish_for_citations():
    document = {**DOCUMENT["document"], "context": "of 2020", "citations": {"enabled": True}}
    assert only({"document": document}, {"text": "Hi"})[0] == {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
        "title": "paper",
        "context": "of 2020",
        "citations": {"enabled": True},
    }


@pytest.mark.parametrize(
    ("source", "carried"),
    [
        ({"bytes": blob("a,b")}, {"type": "text", "media_type": "text/plain", "data": "a,b"}),
        ({"text": "a,b"}, {"type": "text", "media_type": "text/plain", "data": "a,b"}),
        (
            {"content": [{"text": "one"}, {"text": "two"}]},
            {"type": "content", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        ),
    ],
)
def test_a_document_of_text_is_one_of_text_whatever_brings_it(source, carried):
    document = {"document": {"format": "csv", "name": "n", "source": source}}
    assert only(document, {"text": "Hi"})[0]["source"] == carried


def test_a_search_result_stays_one():
    given = {"source": "s", "title": "t", "content": [{"text": "found"}], "citations": {"enabled": True}}
    assert only({"searchResult": given}) == [
        {
            "type": "search_result",
            "source": "s",
            "title": "t",
            "content": [{"type": "text", "text": "found"}],
            "citations": {"enabled": True},
        }
    ]


def test_without_citations_a_search_result_is_text_and_the_wish_is_named():
    given = {"source": "s", "title": "t", "content": [{"text": "found"}], "citations": {"enabled": True}}
    caps = replace(CAPS, citations=False)
    translation, drops = MESSAGES.open({"messages": [user({"searchResult": given})]}, caps)
    assert json.loads(translation.request.top.body)["messages"][0]["content"] == [
        {"type": "text", "text": "t (s)\nfound"}
    ]
    assert drops == ["/messages/0/content/0/searchResult/citations"]


def test_an_answer_with_citations_goes_back_with_them():
    citations = [
        {
            "title": "paper",
            "sourceContent": [{"text": "the words"}],
            "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}},
        },
        {
            "title": "found",
            "source": "s",
            "sourceContent": [{"text": "words"}],
            "location": {"searchResultLocation": {"searchResultIndex": 1, "start": 0, "end": 1}},
        },
    ]
    answer = assistant({"citationsContent": {"content": [{"text": "So"}], "citations": citations}})
    content = MESSAGES.messages(user(DOCUMENT, {"text": "Hi"}), answer, HELLO)[1]["content"]
    assert content == [
        {
            "type": "text",
            "text": "So",
            "citations": [
                {
                    "type": "page_location",
                    "cited_text": "the words",
                    "document_title": "paper",
                    "document_index": 0,
                    "start_page_number": 1,
                    "end_page_number": 2,
                },
                {
                    "type": "search_result_location",
                    "cited_text": "words",
                    "source": "s",
                    "title": "found",
                    "search_result_index": 1,
                    "start_block_index": 0,
                    "end_block_index": 1,
                },
            ],
        }
    ]


def test_a_citation_of_the_web_cannot_go_back_and_is_named():
    citations = [{"location": {"web": {"url": "https://example.com"}}}]
    answer = assistant({"citationsContent": {"content": [{"text": "So"}], "citations": citations}})
    assert MESSAGES.dropped({"messages": [HELLO, answer, HELLO]}) == [
        "/messages/1/content/0/citationsContent/citations"
    ]


def test_guarded_content_is_content():
    guarded = {"guardContent": {"text": {"text": "Hi", "qualifiers": ["query"]}}}
    image = {"guardContent": {"image": {"format": "png", "source": {"bytes": PNG}}}}
    assert [block["type"] for block in only(guarded, image)] == ["text", "image"]
    assert MESSAGES.dropped({"messages": [user(guarded)]}) == ["/messages/0/content/0/guardContent/text/qualifiers"]


def test_results_hold_values_texts_and_files():
    content = [{"json": {"a": 1}}, {"text": "x"}, IMAGE]
    history = [HELLO, assistant(call()), user(result(*content, status="error"))]
    (block,) = MESSAGES.messages(*history, **TOOLS)[2]["content"]
    assert block["is_error"] is True
    assert block["content"][:2] == [{"type": "text", "text": '{"a":1}'}, {"type": "text", "text": "x"}]
    assert block["content"][2]["type"] == "image"


def test_an_empty_result_says_that_it_is_empty():
    history = [HELLO, assistant(call()), user(result({"text": " "}))]
    assert MESSAGES.messages(*history, **TOOLS)[2]["content"][0]["content"][0]["text"] == "(no output)"


def test_ids_that_anthropic_refuses_are_replaced_and_stay_a_pair():
    history = [HELLO, assistant(call("tooluse.1:2")), user(result({"text": "x"}, tool_id="tooluse.1:2"))]
    _, called, answered = MESSAGES.messages(*history, **TOOLS)
    made = called["content"][0]["id"]
    assert made.startswith("call_")
    assert answered["content"][0]["tool_use_id"] == made


def test_a_call_that_nobody_answered_gets_an_error_for_an_answer():
    assert MESSAGES.messages(HELLO, assistant(call()), **TOOLS)[2]["content"][0]["is_error"] is True


def test_what_another_providers_own_tool_did_is_dropped_aloud():
    run = {"toolUse": {"toolUseId": "s", "name": "nova_code_interpreter", "input": {}, "type": "server_tool_use"}}
    ran = {"toolResult": {"toolUseId": "s", "content": [{"json": {}}], "type": "nova_code_interpreter_result"}}
    body = {"messages": [HELLO, assistant(run, ran, {"text": "42"}), HELLO]}
    assert MESSAGES.sent(body)["messages"][1]["content"] == [{"type": "text", "text": "42"}]
    assert MESSAGES.dropped(body) == ["/messages/1/content/0/toolUse", "/messages/1/content/1/toolResult"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (assistant(IMAGE), "messages[0].content[0].image"),
        (assistant(result({"text": "x"})), "messages[0].content[0].toolResult"),
        (user(call()), "messages[0].content[0].toolUse"),
        (
            user({"reasoningContent": {"reasoningText": {"text": "Hm."}}}),
            "messages[0].content[0].reasoningContent.reasoningText",
        ),
        (system(IMAGE), "messages[0].content[0].image"),
    ],
)
def test_a_block_in_a_message_of_the_wrong_role_is_refused(message, field):
    assert MESSAGES.refusal({"messages": [message]}).param == field


def test_signed_thinking_goes_back_untagged():
    thought = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": MINE}}}
    (_, turn, _) = MESSAGES.messages(HELLO, assistant(thought, {"text": "Hi"}), HELLO)
    assert turn["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": "sig-sim-1"}


def test_redacted_thinking_is_taken_out_of_both_its_wrappings():
    thought = {"reasoningContent": {"redactedContent": blob("irisgate1:claude:ZW5j")}}
    (_, turn, _) = MESSAGES.messages(HELLO, assistant(thought, {"text": "Hi"}), HELLO)
    assert turn["content"][0] == {"type": "redacted_thinking", "data": "ZW5j"}


@pytest.mark.parametrize(
    "thought",
    [
        {"reasoningText": {"text": "Hm."}},
        {"reasoningText": {"text": "Hm.", "signature": "irisgate1:claude:"}},
        {"reasoningText": {"text": "Hm.", "signature": "irisgate1:nova:abc"}},
        {"redactedContent": blob("irisgate1:openai:abc")},
    ],
)
def test_thinking_of_nobody_or_of_another_family_is_dropped_aloud(thought):
    body = {"messages": [HELLO, assistant({"reasoningContent": thought}, {"text": "Hi"}), HELLO]}
    assert MESSAGES.sent(body)["messages"][1]["content"] == [{"type": "text", "text": "Hi"}]
    (path,) = MESSAGES.dropped(body)
    assert path.startswith("/messages/1/content/0/reasoningContent")


def test_system_texts_are_the_system_prompt_and_blank_ones_are_left_out():
    assert MESSAGES.sent({"system": [{"text": "a"}, {"text": " "}]})["system"] == [{"type": "text", "text": "a"}]


def test_instructions_in_the_midst_stay_where_they_are():
    turns = MESSAGES.messages(HELLO, assistant({"text": "Hi"}), system({"text": "Be brief."}), HELLO)
    assert turns[2]["role"] == "user"
    assert "Be brief." in turns[2]["content"][0]["text"]


def test_a_turn_that_the_client_began_is_continued_where_the_model_can():
    begun = {"messages": [HELLO, assistant({"text": "It is "})]}
    assert MESSAGES.sent(begun)["messages"][1]["content"] == [{"type": "text", "text": "It is"}]
    assert ADAPTIVE.sent(begun)["messages"][2]["role"] == "user"


def test_tools_that_come_and_go_are_carried_with_their_beta():
    gone = {"toolRemoval": {"tool": {"name": "look"}}}
    come = {"toolAddition": {"tool": {"type": "mcp_tool_reference", "name": "find", "serverName": "files"}}}
    # the judge knows no blocks of betas
    translation, drops = MESSAGES.open({"messages": [user(gone, come, {"text": "Hi"})], **TOOLS}, judged=False)
    assert drops == []
    body = json.loads(translation.request.top.body)
    assert body["anthropic_beta"] == ["mid-conversation-tool-changes-2026-07-01"]
    assert body["messages"][0]["content"][:2] == [
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "look"}},
        {"type": "tool_addition", "tool": {"type": "mcp_tool_reference", "name": "find", "server_name": "files"}},
    ]


REFUSED = {
    "messages[0].content[0].image.source.s3Location": user(
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/x.png"}}}}
    ),
    "messages[0].content[0].image.source.bytes": user({"image": {"format": "png", "source": {"bytes": blob("no")}}}),
    "messages[0].content[0].video": user({"video": {"format": "mp4", "source": {"bytes": blob("v")}}}),
    "messages[0].content[0].audio": user({"audio": {"format": "mp3", "source": {"bytes": blob("a")}}}),
    "messages[0].content[0].document": user(
        {"document": {"format": "docx", "name": "n", "source": {"bytes": blob("PK")}}}
    ),
    "messages[0].content[0]": user({"made_up": {}}),
    "messages[0].role": {"role": "tool", "content": []},
    "messages[0].content": {"role": "user", "content": "Hi"},
    "messages[0].content[0].cachePoint.ttl": user({"cachePoint": {"type": "default", "ttl": "2h"}}),
    "messages[0].content[0].toolUse.input": user({"toolUse": {"toolUseId": "a", "name": "f", "input": "x"}}),
    "messages[0].content[0].toolResult.status": user(result(status="maybe")),
}


@pytest.mark.parametrize(("field", "message"), REFUSED.items())
def test_a_message_that_cannot_be_carried_is_refused_by_its_field(field, message):
    assert MESSAGES.refusal({"messages": [message]}).param == field
