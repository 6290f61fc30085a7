"""Tests of Chat conversations that are translated to turns of Messages: tool calls and results, order, roles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.errors import Refused
from gateway_plugins.translators import openai_chat__anthropic_messages
from tests.helpers.chat_to_messages import CLAUDE, ask, dropped, judge_turns, sent, target


def call(tool_id, name="weather", arguments="{}"):
    return {"id": tool_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*ids, content=None):
    return {"role": "assistant", "content": content, "tool_calls": [call(tool_id) for tool_id in ids]}


def result(tool_id, content="sunny"):
    return {"role": "tool", "tool_call_id": tool_id, "content": content}


def user(content="Hi"):
    return {"role": "user", "content": content}


def turns(*messages, caps=CLAUDE):
    return sent({"messages": list(messages)}, caps)["messages"]


def shape(messages):
    return [(message["role"], [block["type"] for block in message["content"]]) for message in messages]


def test_leading_system_and_developer_messages_become_the_system_prompt():
    body = sent({"messages": [{"role": "system", "content": "A"}, {"role": "developer", "content": "B"}, user()]})
    assert body["system"] == [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert shape(body["messages"]) == [("user", ["text"])]


def test_a_blank_system_prompt_is_left_out():
    assert "system" not in sent({"messages": [{"role": "system", "content": " "}, user()]})


def test_instructions_alone_get_a_user_turn():
    assert shape(turns({"role": "system", "content": "Say hello"})) == [("user", ["text"])]


def test_defect_01_parallel_results_go_into_one_user_turn():
    outgoing = turns(user(), calls("a", "b"), result("a"), result("b"))
    assert shape(outgoing)[-1] == ("user", ["tool_result", "tool_result"])


def test_defect_02_a_tool_message_becomes_a_tool_result():
    outgoing = turns(user(), calls("a"), result("a", "21 degrees"))
    assert outgoing[-1]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "21 degrees"}]}
    ]


def test_defect_03_user_text_after_a_result_joins_its_turn_behind_it():
    outgoing = turns(user(), calls("a"), result("a"), user("And now?"))
    assert shape(outgoing)[-1] == ("user", ["tool_result", "text"])


def test_a_result_that_comes_after_user_text_still_goes_first():
    outgoing = turns(user(), calls("a"), user("Wait"), result("a"))
    assert shape(outgoing)[-1] == ("user", ["tool_result", "text"])


def test_a_missing_result_is_given_as_an_error():
    outgoing = turns(user(), calls("a", "b"), result("b"))
    assert [(block["tool_use_id"], block.get("is_error")) for block in outgoing[-1]["content"]] == [
        ("b", None),
        ("a", True),
    ]


def test_a_call_that_ends_the_conversation_is_answered_too():
    assert shape(turns(user(), calls("a"))) == [
        ("user", ["text"]),
        ("assistant", ["tool_use"]),
        ("user", ["tool_result"]),
    ]


def test_a_result_without_a_call_is_refused_with_its_field():
    with pytest.raises(Refused) as refused:
        turns(user(), result("ghost"))
    assert refused.value.problem.param == "messages[1].tool_call_id"


def test_two_results_of_one_call_become_one():
    outgoing = turns(user(), calls("a"), result("a", "one"), result("a", "two"))
    assert [block["text"] for block in outgoing[-1]["content"][0]["content"]] == ["one", "two"]


def test_ids_that_come_again_in_every_turn_are_made_unique():
    outgoing = turns(user(), calls("call_0"), result("call_0"), calls("call_0"), result("call_0"))
    first, second = (message["content"][0]["id"] for message in outgoing if message["role"] == "assistant")
    assert first == "call_0" != second
    assert outgoing[-1]["content"][0]["tool_use_id"] == second


def test_defect_11_a_foreign_id_is_remapped_on_both_sides_and_always_alike():
    foreign = "functions.weather:0|" + "x" * 80
    outgoing = turns(user(), calls(foreign), result(foreign))
    again = turns(user(), calls(foreign), result(foreign))
    assert outgoing == again
    assert len(outgoing[1]["content"][0]["id"]) <= 64


def test_defect_10_a_made_up_tool_name_is_replayed_as_one_that_is_taken():
    outgoing = turns(user(), {"role": "assistant", "tool_calls": [call("a", "run it now!")]}, result("a"))
    assert outgoing[1]["content"][0]["name"].startswith("run_it_now_")


def test_defect_19_arguments_that_are_no_object_become_one():
    for arguments, expected in (("", {}), ('""', {}), ("oops", {"rawInvalidInput": "oops"}), ("null", {})):
        outgoing = turns(user(), {"role": "assistant", "tool_calls": [call("a", "f", arguments)]}, result("a"))
        assert outgoing[1]["content"][0]["input"] == expected


def test_defect_20_an_empty_member_name_in_arguments_is_left_out():
    outgoing = turns(user(), {"role": "assistant", "tool_calls": [call("a", "f", '{"": 1, "b": 2}')]}, result("a"))
    assert outgoing[1]["content"][0]["input"] == {"b": 2}


@pytest.mark.parametrize("content", ["", " ", None, [], [{"type": "text", "text": ""}]])
def test_defect_21_and_23_a_blank_tool_output_says_so(content):
    outgoing = turns(user(), calls("a"), result("a", content))
    assert outgoing[-1]["content"][0]["content"] == [{"type": "text", "text": "(no output)"}]


def test_a_blank_text_block_is_dropped():
    outgoing = turns(user([{"type": "text", "text": " "}, {"type": "text", "text": "Hi"}]))
    assert outgoing == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


def test_defect_25_an_empty_message_goes_and_neighbours_join():
    """Check that a message without content is left out, and that the messages around it are joined."""
    assert shape(turns(user("A"), {"role": "assistant", "content": ""}, user("B"))) == [("user", ["text", "text"])]


def test_messages_of_one_role_are_merged():
    outgoing = turns(user("A"), {"role": "assistant", "content": "1"}, {"role": "assistant", "content": "2"}, user("B"))
    assert shape(outgoing) == [("user", ["text"]), ("assistant", ["text", "text"]), ("user", ["text"])]


def test_the_first_turn_is_the_users():
    assert shape(turns({"role": "assistant", "content": "Hello"}, user()))[0] == ("user", ["text"])


def test_a_leading_assistant_turn_always_follows_a_user_turn():
    """Check that a user turn is added before a first assistant turn for every model.

    On Converse, only some models need it.
    """
    body = {"messages": [{"role": "assistant", "content": "Hello"}, user()]}
    able = target(replace(CLAUDE, leading_assistant=True))
    outgoing = openai_chat__anthropic_messages.open(ask(body), able, [].append).request.top.decode("messages")
    assert [message["role"] for message in outgoing] == ["user", "assistant", "user"]


def test_the_continued_assistant_turn_has_no_trailing_space():
    """Check that an assistant turn to be continued is sent without white space at its end."""
    outgoing = turns(user(), {"role": "assistant", "content": "The answer is  "})
    assert outgoing[-1] == {"role": "assistant", "content": [{"type": "text", "text": "The answer is"}]}


def test_defect_63_a_model_without_prefill_gets_a_user_turn_at_the_end():
    outgoing = turns(user(), {"role": "assistant", "content": "The"}, caps=replace(CLAUDE, prefill=False))
    assert shape(outgoing)[-1] == ("user", ["text"])


def test_a_system_message_amid_the_turns_stays_in_place_as_a_reminder():
    outgoing = turns(
        user("A"), {"role": "assistant", "content": "1"}, {"role": "system", "content": "Be brief"}, user("B")
    )
    assert outgoing[-1]["content"][0]["text"] == "<system-reminder>\nBe brief\n</system-reminder>"
    assert shape(outgoing)[-1] == ("user", ["text", "text"])


def test_a_system_message_never_stands_between_a_call_and_its_result():
    outgoing = turns(user(), calls("a"), {"role": "system", "content": "Be brief"}, result("a"))
    assert shape(outgoing)[-1] == ("user", ["tool_result", "text"])


def test_a_system_message_after_a_user_turn_is_native_if_able():
    """Check that a system message after a user turn is sent unchanged if the model accepts it."""
    caps = replace(CLAUDE, mid_system=True)
    outgoing = turns(user(), calls("a"), result("a"), {"role": "system", "content": "Be brief"}, caps=caps)
    assert shape(outgoing)[-2:] == [("user", ["tool_result"]), ("system", ["text"])]


def test_a_system_message_before_user_text_is_a_reminder_even_there():
    caps = replace(CLAUDE, mid_system=True)
    outgoing = turns(
        user(), {"role": "assistant", "content": "1"}, {"role": "system", "content": "S"}, user(), caps=caps
    )
    assert shape(outgoing)[-1] == ("user", ["text", "text"])


def test_legacy_function_calls_are_tool_calls():
    outgoing = turns(
        user(),
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"at": "Ulm"}'}},
        {"role": "function", "name": "weather", "content": "rain"},
    )
    assert shape(outgoing)[1:] == [("assistant", ["tool_use"]), ("user", ["tool_result"])]


def test_defect_48_thinking_comes_back_exactly_and_before_the_calls():
    thought = {"type": "thinking", "thinking": "Hm\n ", "signature": "irisgate1:claude:EqQB+/="}
    redacted = {"type": "redacted_thinking", "data": "irisgate1:claude:EmwK"}
    message = {
        **calls("a", content="Let me look"),
        "reasoning_content": "Hm\n ",
        "thinking_blocks": [thought, redacted],
    }
    outgoing = turns(user(), message, result("a"))
    assert outgoing[1]["content"][:2] == [
        {"type": "thinking", "thinking": "Hm\n ", "signature": "EqQB+/="},
        {"type": "redacted_thinking", "data": "EmwK"},
    ]
    assert shape(outgoing)[1][1][2:] == ["text", "tool_use"]
    assert dropped({"messages": [user(), message, result("a")]}) == []


def test_thinking_of_another_family_is_dropped_aloud():
    block = {"type": "thinking", "thinking": "x", "signature": "irisgate1:nova:abc"}
    history = [user(), {"role": "assistant", "content": "Yes", "thinking_blocks": [block]}, user()]
    assert shape(turns(*history))[1] == ("assistant", ["text"])
    assert dropped({"messages": history}) == ["/messages/1/thinking_blocks/0"]


@pytest.mark.parametrize(
    ("part", "lost"),
    [
        ({"type": "thinking", "thinking": "Hm"}, []),
        ({"type": "redacted_thinking", "data": "irisgate1:claude:EmwK"}, []),
        ({"type": "thinking", "thinking": "Oh"}, ["/messages/1/content/0"]),
        ({"type": "redacted_thinking", "data": "irisgate1:claude:other"}, ["/messages/1/content/0"]),
    ],
)
def test_only_thinking_that_the_blocks_have_is_left_out_silently(part, lost):
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": "irisgate1:claude:s"},
        {"type": "redacted_thinking", "data": "irisgate1:claude:EmwK"},
    ]
    content = [part, {"type": "text", "text": "Yes"}]
    message = {"role": "assistant", "content": content, "thinking_blocks": blocks}
    assert dropped({"messages": [user(), message, user()]}) == lost


def test_unsigned_thinking_is_dropped_aloud():
    history = [user(), {"role": "assistant", "content": "Yes", "reasoning_content": "Hm"}, user()]
    assert dropped({"messages": history}) == ["/messages/1/reasoning_content"]


def test_a_turn_that_is_only_thinking_is_left_out_aloud():
    block = {"type": "thinking", "thinking": "x", "signature": "s"}
    history = [user(), {"role": "assistant", "content": "", "thinking_blocks": [block]}, user()]
    assert shape(turns(*history)) == [("user", ["text", "text"])]
    assert dropped({"messages": history}) == ["/messages/1/thinking_blocks/0"]


def test_a_refusal_in_the_history_is_replayed_as_text():
    outgoing = turns(user(), {"role": "assistant", "content": None, "refusal": "I will not"}, user())
    assert outgoing[1]["content"] == [{"type": "text", "text": "I will not"}]


def test_the_name_of_a_speaker_is_dropped_aloud():
    assert dropped({"messages": [{**user(), "name": "ann"}]}) == ["/messages/0/name"]


_texts = st.sampled_from(["", " ", "Hi", "Ärger 🌍", "\n"])
_ids = st.sampled_from(["a", "b", "call_0", "x.y:1", "é" * 70])
_blocks = st.lists(
    st.sampled_from(
        [
            {"type": "thinking", "thinking": "t", "signature": "irisgate1:claude:s"},
            {"type": "redacted_thinking", "data": "irisgate1:claude:d"},
            {"type": "thinking", "thinking": "t", "signature": "irisgate1:nova:s"},
        ]
    ),
    max_size=2,
)
_messages = st.one_of(
    st.builds(user, _texts),
    st.builds(lambda text: {"role": "system", "content": text}, _texts),
    st.builds(
        lambda text, ids, blocks: {**calls(*ids, content=text), "thinking_blocks": blocks},
        _texts,
        st.lists(_ids, max_size=3),
        _blocks,
    ),
    st.builds(result, _ids, _texts),
)


def answered(messages):
    """Remove each tool result without a tool call from the messages, because a request with such a result would be
    refused.
    """
    turns, known = [], set()
    for message in messages:
        has_content = (message.get("content") or "").strip()
        if message["role"] == "assistant" and (has_content or message["tool_calls"]):
            # an assistant message that says something; directly behind another one it belongs to the same turn
            known = (known if turns and turns[-1]["role"] == "assistant" else set()) | {
                called["id"] for called in message["tool_calls"]
            }
        if message["role"] != "tool" or message["tool_call_id"] in known:
            turns.append(message)
    return turns


@settings(max_examples=150, deadline=None)
@given(
    st.lists(_messages, min_size=1, max_size=10).map(answered).filter(bool),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "high"]),
)
def test_any_conversation_obeys_the_turn_rules(messages, mid_system, prefill, effort):
    caps = replace(CLAUDE, mid_system=mid_system, prefill=prefill)
    body = {"messages": messages} | ({"reasoning_effort": effort} if effort else {})
    try:
        outgoing = sent(body, caps)["messages"]
    except Refused as refused:
        assert refused.problem.param.endswith("tool_call_id")  # noqa: PT017
        return
    judge_turns(outgoing)
    texts = [m["content"].strip() for m in messages if m["role"] == "user" and m["content"].strip()]
    prose = [b["text"] for m in outgoing for b in m["content"] if b["type"] == "text" and m["role"] == "user"]
    assert [text for text in prose if not text.startswith("<system-reminder>") and text != "Continue."] == texts
