"""Tests of files and cache marks in Chat requests that are translated to Messages."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from tests.helpers.chat_to_messages import CLAUDE, HISTORY, dropped, refusal, sent
from tests.helpers.samples import PNG

MARK = {"cache_control": {"type": "ephemeral"}}
CARRIED = {"type": "ephemeral"}


def content(part):
    return sent({"messages": [{"role": "user", "content": [part]}]})["messages"][0]["content"]


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


def file(data, name="a.pdf"):
    return {"type": "file", "file": {"file_data": data, "filename": name}}


def data_url(mime, data):
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def test_an_image_of_a_data_url_is_sent_as_base64():
    assert content(image(f"data:image/png;base64,{PNG}")) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    ]


@pytest.mark.parametrize("declared", ["image/jpg", "image/webp", "image/png; charset=utf-8"])
def test_defect_29_and_30_an_image_is_what_its_bytes_say(declared):
    assert content(image(f"data:{declared};base64,{PNG}"))[0]["source"]["media_type"] == "image/png"


def test_a_remote_image_is_refused_and_a_data_url_asked_for():
    problem = refusal({"messages": [{"role": "user", "content": [image("https://example.com/a.png")]}]})
    assert problem.param == "messages[0].content[0].image_url.url"
    assert "data:" in problem.message


def test_a_vector_image_is_refused():
    part = image(data_url("image/svg+xml", b"<svg/>"))
    assert refusal({"messages": [{"role": "user", "content": [part]}]}).param == "messages[0].content[0].image_url.url"


def test_defect_24_an_image_with_blank_text_is_an_image():
    parts = [{"type": "text", "text": ""}, image(f"data:image/png;base64,{PNG}")]
    content = sent({"messages": [{"role": "user", "content": parts}]})["messages"][0]["content"]
    assert [block["type"] for block in content] == ["image"]


def test_a_pdf_is_a_document_with_its_name():
    block = content(file(data_url("application/pdf", b"%PDF-1.7 x"), "Über 1.pdf"))[0]
    assert (block["type"], block["source"]["media_type"], block["title"]) == (
        "document",
        "application/pdf",
        "Über 1.pdf",
    )


def test_a_text_file_is_a_text_document():
    block = content(file(data_url("text/markdown", "# Größe".encode()), "a.md"))[0]
    assert block["source"] == {"type": "text", "media_type": "text/plain", "data": "# Größe"}


@pytest.mark.parametrize(
    "part",
    [
        file(data_url("application/msword", b"x"), "a.doc"),
        file(data_url("text/plain", b"\xff\xfe"), "a.txt"),
        file(data_url("text/plain", b" "), "a.txt"),
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
    ],
)
def test_what_the_model_cannot_read_is_refused_with_its_field(part):
    problem = refusal({"messages": [{"role": "user", "content": [part]}]})
    assert problem.param.startswith("messages[0].content[0]")


def test_a_model_without_eyes_gets_no_image():
    body = {"messages": [{"role": "user", "content": [image(f"data:image/png;base64,{PNG}")]}]}
    assert refusal(body, replace(CLAUDE, images=False)).param == "messages[0].content[0]"


def test_a_tool_result_may_hold_an_image():
    history = [*HISTORY[:2], {**HISTORY[2], "content": [image(f"data:image/png;base64,{PNG}")]}]
    assert sent({"messages": history})["messages"][-1]["content"][0]["content"][0]["type"] == "image"


def test_the_detail_of_an_image_is_dropped_aloud():
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}}
    path = "/messages/0/content/0/image_url/detail"
    assert dropped({"messages": [{"role": "user", "content": [part]}]}) == [path]


def test_defect_44_cache_marks_are_carried_from_every_place():
    """Check that cache marks on tools, system messages, parts and tool results are sent on."""
    body = sent(
        {
            "tools": [{"type": "function", "function": {"name": "f"}, **MARK}],
            "messages": [
                {"role": "system", "content": "S", **MARK},
                {"role": "user", "content": [{"type": "text", "text": "Hi", **MARK}]},
                HISTORY[1],
                {**HISTORY[2], **MARK},
            ],
        }
    )
    marked = [body["tools"][0], body["system"][0], body["messages"][0]["content"][0], body["messages"][2]["content"][0]]
    assert [block.get("cache_control") for block in marked] == [CARRIED] * 4


def test_a_mark_on_an_assistant_message_goes_on_its_last_call():
    body = sent({"messages": [HISTORY[0], {**HISTORY[1], **MARK}, HISTORY[2]]})
    assert body["messages"][1]["content"][-1]["cache_control"] == CARRIED


def test_defect_45_a_marks_lifetime_is_carried_where_it_is_taken():
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = {"messages": [{"role": "user", "content": "Hi", **hour}]}
    assert sent(body)["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert dropped(body, replace(CLAUDE, cache_ttl=False)) == ["/messages/0/cache_control/ttl"]


def test_of_more_than_four_marks_the_earliest_in_the_messages_go():
    parts = [{"type": "text", "text": str(number), **MARK} for number in range(5)]
    body = {"messages": [{"role": "system", "content": "S", **MARK}, {"role": "user", "content": parts}]}
    request = sent(body)
    assert [("cache_control" in block) for block in request["messages"][0]["content"]] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert dropped(body) == ["/messages/1/content/0/cache_control", "/messages/1/content/1/cache_control"]


def test_a_model_without_a_cache_gets_no_marks():
    body = {"messages": [{"role": "user", "content": "Hi", **MARK}]}
    assert dropped(body, replace(CLAUDE, cache_points=False)) == ["/messages/0/cache_control"]


def test_a_mark_on_the_whole_request_goes_on_its_last_block():
    assert sent(MARK)["messages"][0]["content"][0]["cache_control"] == CARRIED
