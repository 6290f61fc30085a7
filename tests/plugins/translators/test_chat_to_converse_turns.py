"""Tests of Chat messages that are translated to Converse: tool results, system messages, blank text, names and ids,
files, cache points.
"""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.errors import Refused
from gateway.contract.flag import Caps
from tests.helpers.chat_to_converse import (  # fmt: skip
    ALL,
    CLAUDE,
    GPT_OSS,
    IMAGE,
    LLAMA,
    MISTRAL,
    NEW_CLAUDE,
    NOVA,
    PDF,
    WRITER,
    called,
    dropped,
    opened,
    result,
    sent,
    tool,
    user,
)
from tests.helpers.samples import PNG

CACHE = {"type": "ephemeral"}
POINT = {"cachePoint": {"type": "default"}}


def messages(*conversation, caps: Caps = CLAUDE, **more):
    return sent({"messages": list(conversation), **more}, caps)["messages"]


def file(data: str, name: str | None = None, mime: str = "application/pdf"):
    inner = {"file_data": f"data:{mime};base64,{data}"}
    return {"type": "file", "file": inner if name is None else {**inner, "filename": name}}


def test_leading_system_and_developer_messages_become_the_system_member():
    body = sent({"messages": [{"role": "system", "content": "A"}, {"role": "developer", "content": "B"}, user("Hi")]})
    assert body["system"] == [{"text": "A"}, {"text": "B"}]
    assert body["messages"] == [{"role": "user", "content": [{"text": "Hi"}]}]


def test_a_later_system_message_stays_in_its_place_as_a_reminder():
    outgoing = messages(user("Hi"), {"role": "system", "content": "Be brief."}, user("Go"))
    assert outgoing[0]["content"][1] == {"text": "<system-reminder>\nBe brief.\n</system-reminder>"}


def test_a_later_system_message_is_native_where_the_model_takes_it():
    outgoing = messages(user("Hi"), {"role": "system", "content": "Be brief."}, caps=NEW_CLAUDE)
    assert outgoing[1] == {"role": "system", "content": [{"text": "Be brief."}]}


def test_a_system_message_never_comes_between_a_call_and_its_result():
    outgoing = messages(user("Hi"), called(("a", "look", "{}")), {"role": "system", "content": "S"}, result("a"))
    assert [next(iter(block)) for block in outgoing[2]["content"]] == ["toolResult", "text"]


def test_defect_01_parallel_results_share_one_user_turn():
    outgoing = messages(
        user("Hi"), called(("a", "look", "{}"), ("b", "look", "{}")), result("a", "1"), result("b", "2"), tools=[tool()]
    )
    assert [block["toolResult"]["content"] for block in outgoing[2]["content"]] == [[{"text": "1"}], [{"text": "2"}]]


def test_defect_02_a_tool_message_becomes_a_tool_result():
    outgoing = messages(user("Hi"), called(("a", "look", "{}")), result("a"))
    assert outgoing[2] == {
        "role": "user",
        "content": [{"toolResult": {"toolUseId": "a", "content": [{"text": "done"}], "status": "success"}}],
    }


def test_defect_03_user_text_behind_a_result_joins_its_turn():
    outgoing = messages(user("Hi"), called(("a", "look", "{}")), result("a"), user("And?"))
    assert outgoing[2]["content"][1] == {"text": "And?"}


@pytest.mark.parametrize("caps", [LLAMA, MISTRAL, WRITER])
def test_defect_04_and_05_text_is_apart_from_results_if_demanded(caps):
    """Check that text and tool results are sent in separate turns if the model's family requires it."""
    outgoing = messages(user("Hi"), called(("a", "look", "{}")), result("a"), user("And?"), caps=caps)
    assert outgoing[3:] == [{"role": "assistant", "content": [{"text": "."}]}, user([{"text": "And?"}])]


def test_defect_04_a_document_stands_apart_from_results_on_every_model():
    outgoing = messages(user("Hi"), called(("a", "look", "{}")), result("a"), user(["Read", file(PDF)]))
    assert [message["role"] for message in outgoing] == ["user", "assistant", "user", "assistant", "user"]


def test_defect_06_past_calls_give_a_tool_config_without_tools():
    """Check that a request without tools gets a tool configuration if the history has tool calls."""
    body = sent({"messages": [user("Hi"), called(("a", "look", "{}")), result("a")]})
    assert body["toolConfig"]["tools"][0]["toolSpec"]["name"] == "look"
    assert body["additionalModelRequestFields"] == {"tool_choice": {"type": "none"}}


@pytest.mark.parametrize("name", ["n" * 90, "mcp.files/read", "größe"])
def test_defects_08_09_10_refused_names_are_aliased_everywhere(name):
    """Check that names that Bedrock refuses are replaced in tools and in the history."""
    body = sent({"messages": [user("Hi"), called(("a", name, "{}")), result("a")], "tools": [tool(name)]})
    alias = body["toolConfig"]["tools"][0]["toolSpec"]["name"]
    assert alias != name
    assert body["messages"][1]["content"][0]["toolUse"]["name"] == alias


def test_defect_11_ids_that_bedrock_refuses_are_replaced_on_both_sides():
    outgoing = messages(
        user("Hi"), called(("x" * 80, "look", "{}"), ("fc|1", "look", "{}")), result("x" * 80), result("fc|1")
    )
    ids = [block["toolUse"]["toolUseId"] for block in outgoing[1]["content"]]
    assert ids == [block["toolResult"]["toolUseId"] for block in outgoing[2]["content"]]


def test_ids_that_begin_alike_stay_apart_on_models_with_short_ids():
    calls = called(("tooluse_AAAAAAAA1", "look", "{}"), ("tooluse_AAAAAAAA2", "look", "{}"))
    outgoing = messages(user("Hi"), calls, result("tooluse_AAAAAAAA1"), result("tooluse_AAAAAAAA2"), caps=MISTRAL)
    ids = [block["toolUse"]["toolUseId"] for block in outgoing[1]["content"]]
    assert len(set(ids)) == 2
    assert all(len(made) == 9 and made.isalnum() for made in ids)


def test_ids_that_begin_anew_in_each_turn_are_made_unique():
    turn = (called(("call_0", "look", "{}")), result("call_0"))
    outgoing = messages(user("Hi"), *turn, *turn)
    assert outgoing[1]["content"][0]["toolUse"]["toolUseId"] != outgoing[3]["content"][0]["toolUse"]["toolUseId"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}), (None, {}), ('""', {}), ('{"a": 1}', {"a": 1}), ('"{\\"a\\": 1}"', {"a": 1}), ({"a": 1}, {"a": 1}),
        ("{broken", {"rawInvalidInput": "{broken"}), ("[1]", {"rawInvalidInput": "[1]"}),
    ],
)  # fmt: skip
def test_defects_18_and_19_replayed_arguments_are_always_an_object(arguments, expected):
    outgoing = messages(user("Hi"), called(("a", "look", arguments)), result("a"))
    assert outgoing[1]["content"][0]["toolUse"]["input"] == expected


def test_defect_20_empty_member_names_are_taken_out_of_arguments():
    outgoing = messages(user("Hi"), called(("a", "look", '{"": 1, "b": [{"": 2}]}')), result("a"))
    assert outgoing[1]["content"][0]["toolUse"]["input"] == {"b": [{}]}


@pytest.mark.parametrize("content", ["", " \n", [], None, [{"type": "text", "text": ""}]])
def test_defects_21_22_23_an_empty_result_says_so_in_visible_text(content):
    outgoing = messages(user("Hi"), called(("a", "look", "{}")), result("a", content))
    assert outgoing[2]["content"][0]["toolResult"]["content"] == [{"text": "(no output)"}]


def test_a_call_without_a_result_gets_an_error():
    outgoing = messages(user("Hi"), called(("a", "look", "{}"), ("b", "look", "{}")), result("b"), user("Go on"))
    assert [block["toolResult"]["status"] for block in outgoing[2]["content"][:2]] == ["success", "error"]


def test_a_result_without_a_call_is_refused():
    with pytest.raises(Refused, match="answers no tool call"):
        opened({"messages": [user("Hi"), result("a")]})


def test_results_are_json_where_the_model_wants_them_so():
    calls = called(("a", "look", "{}"), ("b", "look", "{}"))
    outgoing = messages(user("Hi"), calls, result("a", '{"n": 1}'), result("b", "text"), caps=MISTRAL)
    assert [block["toolResult"]["content"] for block in outgoing[2]["content"]] == [
        [{"json": {"n": 1}}],
        [{"json": {"output": "text"}}],
    ]


def test_results_have_no_status_where_the_model_refuses_it():
    outgoing = messages(user("Hi"), called(("a", "look", "{}")), result("a"), caps=WRITER)
    assert "status" not in outgoing[2]["content"][0]["toolResult"]


@pytest.mark.parametrize("caps", [CLAUDE, GPT_OSS, MISTRAL])
def test_an_image_in_a_result_stays_inside_or_goes_beside_it_by_model(caps):
    outgoing = messages(user("Hi"), called(("a", "look", "{}")), result("a", ["Here:", IMAGE]), caps=caps)
    inside = any("image" in block for block in outgoing[2]["content"][0]["toolResult"]["content"])
    beside = any("image" in block for message in outgoing[2:] for block in message["content"])
    assert (inside, beside) == (caps.tool_result_images, not caps.tool_result_images)


def test_defect_24_a_blank_text_block_is_dropped():
    assert messages(user(["", IMAGE, " "]))[0]["content"] == [
        {"image": {"format": "png", "source": {"bytes": PNG}}},
    ]


def test_defect_25_a_document_alone_gets_text_and_an_empty_message_goes():
    outgoing = messages(user([file(PDF)]), {"role": "assistant", "content": []}, user([]))
    assert [next(iter(block)) for block in outgoing[0]["content"]] == ["text", "document"]
    assert len(outgoing) == 1


def test_defect_26_untitled_documents_get_different_names():
    outgoing = messages(user(["Read", file(PDF), file(PDF)]))
    assert [b["document"]["name"] for b in outgoing[0]["content"][1:]] == ["Document", "Document (2)"]


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("a_b.v2.pdf", "a b v2"),
        ("レポート　1.pdf", "1"),
        ("x  y.pdf", "x y"),
        ("", "Document"),
        ("ä" * 300 + ".pdf", "Document"),
    ],
)
def test_defect_27_document_names_have_bedrocks_alphabet(filename, name):
    assert messages(user(["Read", file(PDF, filename)]))[0]["content"][1]["document"]["name"] == name


def test_defect_28_a_document_in_a_result_has_a_name():
    outgoing = messages(user("Hi"), called(("a", "look", "{}")), result("a", [file(PDF, "r.pdf")]))
    assert outgoing[2]["content"][0]["toolResult"]["content"][0]["document"]["name"] == "r"


@pytest.mark.parametrize(
    "declared", ["image/jpg", "image/webp", "image/png; charset=utf-8", "IMAGE/PNG", "application/octet-stream", ""]
)
def test_defects_29_and_30_the_bytes_decide_what_an_image_is(declared):
    part = {"type": "image_url", "image_url": {"url": f"data:{declared};base64,{PNG}"}}
    assert messages(user([part]))[0]["content"][0]["image"]["format"] == "png"


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,PHN2Zz4="}},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,!!"}},
            "messages[0].content[0].image_url.url",
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, "messages[0].content[0].file.file_data"),
        ({"type": "video_url"}, "messages[0].content[0].type"),
    ],
)
def test_a_part_that_cannot_be_read_is_a_400_that_names_it(part, field):
    with pytest.raises(Refused) as refused:
        opened({"messages": [user([part])]})
    assert refused.value.problem.param == field


def test_a_remote_image_is_refused_with_the_way_out():
    with pytest.raises(Refused, match="data: URL"):
        opened({"messages": [user([{"type": "image_url", "image_url": {"url": "http://a/b.png"}}])]})


def test_an_image_for_a_model_without_eyes_is_refused():
    with pytest.raises(Refused, match="takes no images"):
        opened({"messages": [user([IMAGE])]}, Caps(images=False))


@pytest.mark.parametrize(
    ("name", "mime", "expected"),
    [("a.md", "text/markdown", "md"), ("a.csv", "application/octet-stream", "csv"), ("a.py", "text/x-python", "txt")],
)
def test_a_text_file_is_a_document_of_its_type(name, mime, expected):
    data = base64.b64encode(b"hello").decode()
    assert messages(user(["Read", file(data, name, mime)]))[0]["content"][1]["document"]["format"] == expected


def test_sound_becomes_an_audio_block():
    part = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    assert messages(user(["Listen", part]))[0]["content"][1] == {
        "audio": {"format": "wav", "source": {"bytes": "UklGRg=="}}
    }


def test_a_legacy_function_call_and_its_result_are_a_pair():
    call = {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}
    outgoing = messages(user("Hi"), call, {"role": "function", "name": "look", "content": "1"})
    assert outgoing[2]["content"][0]["toolResult"]["toolUseId"] == outgoing[1]["content"][0]["toolUse"]["toolUseId"]


def test_a_leading_assistant_turn_gets_a_user_turn_if_demanded():
    """Check that a user turn is added before a first assistant turn if the model's family requires one."""
    hello = {"role": "assistant", "content": "Hello"}
    assert messages(hello, user("Hi"))[0]["role"] == "assistant"
    assert messages(hello, user("Hi"), caps=NOVA)[0] == user([{"text": "."}])


def test_defect_63_a_trailing_assistant_turn_continues_if_able():
    """Check that a conversation may end with an assistant turn only if the model can continue this turn.

    For any other model, a user turn is added.
    """
    last = {"role": "assistant", "content": "The answer is "}
    assert messages(user("Hi"), last)[-1]["content"] == [{"text": "The answer is"}]
    assert messages(user("Hi"), last, caps=NEW_CLAUDE)[-1] == user([{"text": "Continue."}])


def test_defect_44_cache_control_is_carried_from_every_place():
    """Check that `cache_control` is sent on from system messages, parts, tools and tool results."""
    body = sent(
        {
            "messages": [
                {"role": "system", "content": "S", "cache_control": CACHE},
                user([{"type": "text", "text": "Hi", "cache_control": CACHE}]),
                called(("a", "look", "{}")),
                {**result("a"), "cache_control": CACHE},
            ],
            "tools": [{**tool(), "cache_control": CACHE}],
        }
    )
    assert body["system"][1] == body["toolConfig"]["tools"][1] == POINT
    assert body["messages"][0]["content"][1] == body["messages"][2]["content"][1] == POINT


def test_defect_45_the_lifetime_of_a_cache_point_is_carried():
    marked = user([{"type": "text", "text": "Hi", "cache_control": {**CACHE, "ttl": "1h"}}])
    assert messages(marked)[0]["content"][1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert dropped({"messages": [marked]}, NOVA) == ["/messages/0/content/0/cache_control/ttl"]


def test_defect_46_a_cache_point_moves_before_a_text_document():
    data = base64.b64encode(b"hello").decode()
    outgoing = messages({**user(["Read", file(data, "a.txt", "text/plain")]), "cache_control": CACHE})
    assert [next(iter(block)) for block in outgoing[0]["content"]] == ["text", "cachePoint", "document"]
    outgoing = messages({**user(["Read", file(PDF)]), "cache_control": CACHE})
    assert [next(iter(block)) for block in outgoing[0]["content"]] == ["text", "document", "cachePoint"]


def test_too_many_cache_points_drop_the_earliest_messages():
    """Check that if a request has too many cache points, the cache points of the earliest messages are reported as
    dropped.
    """
    marked = [user([{"type": "text", "text": "Hi", "cache_control": CACHE}])] * 5
    body = {"messages": [{"role": "system", "content": "S", "cache_control": CACHE}, *marked]}
    assert dropped(body) == ["/messages/1/content/0/cache_control", "/messages/2/content/0/cache_control"]


def test_a_longer_lifetime_behind_a_shorter_one_is_shortened_aloud():
    body = {
        "messages": [
            {"role": "system", "content": "S", "cache_control": CACHE},
            {**user("Hi"), "cache_control": {**CACHE, "ttl": "1h"}},
        ]
    }
    assert dropped(body) == ["/messages/1/cache_control/ttl"]


def test_cache_marks_for_a_model_without_caching_are_dropped_aloud():
    body = {"messages": [{**user("Hi"), "cache_control": CACHE}], "tools": [{**tool(), "cache_control": CACHE}]}
    assert sorted(dropped(body, LLAMA)) == ["/messages/0/cache_control", "/tools/0/cache_control"]


def test_members_of_a_message_that_are_not_carried_are_reported():
    conversation = [
        {**user("Hi"), "name": "Ann"},
        {"role": "assistant", "content": "Ho", "reasoning_content": "Hm"},
        user("?"),
    ]
    assert dropped({"messages": conversation}) == ["/messages/0/name", "/messages/1/reasoning_content"]


TEXT = st.sampled_from(["", " ", "Hi", "a\nb"])
CONTENT = st.one_of(
    TEXT,
    st.lists(
        st.one_of(TEXT, st.just(IMAGE), st.just(file(PDF, "r.pdf")), st.just(file("aGVsbG8=", "a.txt", "text/plain"))),
        max_size=3,
    ),
)
MARK = st.sampled_from([{}, {}, {"cache_control": CACHE}, {"cache_control": {**CACHE, "ttl": "1h"}}])


@st.composite
def conversations(draw):
    """Draw histories like those of real clients: roles in any order, tool calls with some, all or no results, repeated
    ids.
    """
    outgoing = []
    for _ in range(draw(st.integers(1, 7))):
        role = draw(st.sampled_from(["system", "user", "assistant", "calls", "calls"]))
        mark = draw(MARK)
        if role == "calls":
            ids = draw(
                st.lists(st.sampled_from(["call_0", "call_1", "id|2", "x" * 70]), min_size=1, max_size=3, unique=True)
            )
            outgoing.append({**called(*((made, "look", "{}") for made in ids)), "content": draw(TEXT), **mark})
            for made in ids:
                if draw(st.booleans()):
                    outgoing.append({**result(made, draw(CONTENT)), **draw(MARK)})
                if draw(st.integers(0, 4)) == 0:
                    outgoing.append(user(draw(CONTENT)))
        else:
            outgoing.append({"role": role, "content": draw(CONTENT if role == "user" else TEXT), **mark})
    return outgoing


@settings(max_examples=300, deadline=None)
@given(conversations(), st.sampled_from(ALL))
def test_any_history_becomes_turns_that_converse_takes(conversation, caps):
    sent({"messages": conversation}, caps)
