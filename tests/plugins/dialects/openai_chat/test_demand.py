"""Tests of the requirements of Chat Completions for any client's conversation: results of tool calls, files, ids,
roles.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.capabilities import Caps
from gateway.contract.errors import Refused
from gateway.contract.flag import Target
from gateway.testkit.rules.chat import chat_fault
from gateway_plugins.dialects.openai_chat.demand import Conversation, media_part, text
from gateway_plugins.shared import media
from gateway_plugins.shared.conversation import Call
from gateway_plugins.shared.reasoning import Reasoning

PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "data:application/pdf;base64,JVBERi0xLjQKJcOkw7zDtsOfCg=="
PLAIN = Caps()
MISTRAL = Caps(tool_result_alone=True, tool_id_alphanumeric=9)
THINKER = Caps(reasoning_content=True)
IMAGE = media_part(media.image(PNG, "f"), PLAIN, "f")


class CheckedConversation(Conversation):
    """A `Conversation` for tests: it records the dropped fields, and its messages must pass the simulated provider's
    rules.
    """

    def __init__(self, caps=PLAIN):
        self.dropped = []
        super().__init__(Target("p", "openai_chat", "m", "openai_chat", caps), self.dropped.append)

    def messages(self):
        messages = super().messages()
        assert (fault := chat_fault({"model": "m", "messages": messages})) is None, fault
        return messages

    def roles(self):
        return [message["role"] for message in self.messages()]


def look(*ids):
    return [Call(tool_id, "look", {}) for tool_id in ids]


def test_texts_are_strings_and_parts_are_lists():
    conversation = CheckedConversation()
    conversation.system("S")
    conversation.user([text("Hi")])
    conversation.user([text("See"), IMAGE])
    assert [message["content"] for message in conversation.messages()] == ["S", "Hi", [text("See"), IMAGE]]


def test_blank_texts_are_left_out():
    conversation = CheckedConversation()
    conversation.system(" ")
    conversation.user([text(" \n"), text("Hi")])
    conversation.assistant([" "], "/1")
    conversation.user([text("")])
    assert conversation.messages() == [{"role": "user", "content": "Hi"}]


def test_a_conversation_of_nothing_is_still_one():
    conversation = CheckedConversation()
    conversation.system("S")
    assert conversation.roles() == ["system", "user"]


def test_results_stand_behind_their_calls_whatever_came_first():
    conversation = CheckedConversation()
    conversation.user([text("Hi")])
    conversation.assistant(["So", *look("a", "b")], "/1")
    conversation.system("Be brief.")
    conversation.user([text("go")])
    conversation.result("b", [text("2")], "/3")
    conversation.result("a", [text("1")], "/4")
    assert conversation.roles() == ["user", "assistant", "tool", "tool", "system", "user"]


def test_a_call_without_a_result_gets_one():
    conversation = CheckedConversation()
    conversation.assistant(["", *look("a", "b")], "/0")
    conversation.result("a", [text("1")], "/1")
    conversation.assistant(["Well"], "/2")
    assert conversation.messages()[2]["content"] == "Error: No result was given for this tool call."


def test_calls_that_end_a_conversation_are_answered_too():
    conversation = CheckedConversation()
    conversation.assistant(["", *look("a")], "/0")
    assert conversation.roles() == ["assistant", "tool"]


def test_two_results_for_one_call_become_one():
    conversation = CheckedConversation()
    conversation.assistant(["", *look("a")], "/0")
    conversation.result("a", [text("1")], "/1")
    conversation.result("a", [text("2")], "/2")
    assert conversation.messages()[1]["content"] == "1\n2"


def test_a_result_without_a_call_is_refused():
    conversation = CheckedConversation()
    conversation.user([text("Hi")])
    with pytest.raises(Refused, match="answers no tool call"):
        conversation.result("a", [text("1")], "/messages/1")


def test_two_assistants_in_a_row_become_one():
    conversation = CheckedConversation()
    conversation.assistant(["One", *look("a")], "/0")
    conversation.assistant(["Two", *look("b")], "/1")
    conversation.result("a", [text("1")], "/2")
    conversation.result("b", [text("2")], "/3")
    assert conversation.roles() == ["assistant", "tool", "tool"]
    assert conversation.messages()[0]["content"] == "One\n\nTwo"


def test_an_id_that_comes_again_stays_unique_and_its_result_with_it():
    conversation = CheckedConversation()
    for _ in range(2):
        conversation.assistant(["", *look("call_0")], "/0")
        conversation.result("call_0", [text("1")], "/1")
    ids = [message["tool_call_id"] for message in conversation.messages() if message["role"] == "tool"]
    assert len(set(ids)) == 2
    assert ids == [call["id"] for message in conversation.messages() for call in message.get("tool_calls", ())]


@pytest.mark.parametrize("given_id", ["tooluse_" + "x" * 40, "a b", "", "é"])
def test_an_id_that_openai_refuses_becomes_another_on_both_sides(given_id):
    conversation = CheckedConversation()
    conversation.assistant(["", *look(given_id)], "/0")
    if given_id:
        conversation.result(given_id, [text("1")], "/1")
    call, result = conversation.messages()
    assert len(result["tool_call_id"]) <= 40
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]


def test_files_of_a_result_follow_in_a_users_message():
    conversation = CheckedConversation()
    conversation.assistant(["", *look("a", "b")], "/0")
    conversation.result("a", [text("one"), IMAGE], "/1")
    conversation.result("b", [text("two")], "/2")
    _, first, second, files = conversation.messages()
    assert first["content"] == "one\n(the files of this result follow in the next message)"
    assert second["content"] == "two"
    assert files == {"role": "user", "content": [text("The files of the tool result a:"), IMAGE]}


def test_an_empty_result_says_so():
    conversation = CheckedConversation()
    conversation.assistant(["", *look("a")], "/0")
    conversation.result("a", [text("")], "/1")
    assert conversation.messages()[1]["content"] == "(no output)"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "Error: (no output)"),
        ([text("not found")], "Error: not found"),
        ([text("TypeError: no")], "TypeError: no"),
        ([text("one"), text("two")], "Error: one\ntwo"),
    ],
)
def test_a_failed_result_says_that_it_failed(content, words):
    conversation = CheckedConversation()
    conversation.assistant(["", *look("a")], "/0")
    conversation.result("a", content, "/1", is_error=True)
    assert conversation.messages()[1]["content"] == words


def test_a_failed_result_keeps_texts_that_are_alike():
    conversation = CheckedConversation()
    conversation.assistant(look("a"), "/0")
    conversation.result("a", [text("x"), IMAGE, text("x"), text("y"), text("x")], "/1", is_error=True)
    assert conversation.messages()[1]["content"].split("\n")[:4] == ["Error: x", "x", "y", "x"]


def test_thinking_goes_back_where_the_model_reads_it():
    conversation = CheckedConversation(THINKER)
    conversation.assistant([Reasoning("/0/0", "Hm."), "So", *look("a")], "/0")
    assert conversation.messages()[0]["reasoning_content"] == "Hm."
    assert conversation.dropped == []


def test_thinking_is_dropped_aloud_elsewhere():
    conversation = CheckedConversation()
    conversation.assistant([Reasoning("/messages/0/0", "Hm."), "So"], "/messages/0")
    assert "reasoning_content" not in conversation.messages()[0]
    assert conversation.dropped == ["/messages/0/0"]


def test_a_refusal_of_the_model_is_kept():
    conversation = CheckedConversation()
    conversation.assistant([""], "/0", refusal="No.")
    assert conversation.messages()[0]["refusal"] == "No."


def test_a_last_assistant_is_followed_where_the_model_continues_none():
    conversation = CheckedConversation(Caps(prefill=False))
    conversation.assistant(["So"], "/0")
    assert conversation.roles() == ["assistant", "user"]


def test_a_model_without_system_messages_gets_them_from_the_user():
    conversation = CheckedConversation(Caps(system=False))
    conversation.system("S")
    assert conversation.roles() == ["user"]


def test_where_results_stand_alone_the_assistant_speaks_between():
    conversation = CheckedConversation(MISTRAL)
    conversation.assistant(["", *look("toolu_1")], "/0")
    conversation.result("toolu_1", [text("1")], "/1")
    conversation.user([text("go")])
    assert conversation.roles() == ["assistant", "tool", "assistant", "user"]
    assert len(conversation.messages()[1]["tool_call_id"]) == 9


def test_a_hint_of_ours_is_added_to_the_system_text():
    conversation = CheckedConversation()
    conversation.system("S")
    conversation.user([text("Hi")])
    conversation.hint("H")
    assert conversation.messages()[0]["content"] == "S\n\nH"


def test_a_hint_stands_first_where_there_is_no_system_text():
    conversation = CheckedConversation()
    conversation.user([text("Hi")])
    conversation.assistant(["", *look("a")], "/1")
    conversation.hint("H")
    assert conversation.roles() == ["system", "user", "assistant", "tool"]


def test_a_pdf_is_a_file_with_an_extension():
    part = media_part(media.document(PDF, "report", "f"), PLAIN, "f")
    assert part == {"type": "file", "file": {"filename": "report.pdf", "file_data": PDF}}


def test_a_text_document_is_text():
    part = media_part(media.document("data:text/plain;base64,SGk=", 'a "b".txt', "f"), PLAIN, "f")
    assert part == text("<document title=\"a 'b'.txt\">\nHi\n</document>")


@pytest.mark.parametrize(("url", "caps"), [(PNG, Caps(images=False)), (PDF, Caps(documents=False))])
def test_a_file_that_the_model_cannot_see_is_refused_by_its_field(url, caps):
    with pytest.raises(Refused, match=r"^messages\[0\]: this model takes no"):
        media_part(media.document(url, "", "f"), caps, "messages[0]")


TURNS = st.one_of(
    st.tuples(st.just("user"), st.sampled_from(["", "Hi"])),
    st.tuples(st.just("system"), st.sampled_from(["", "S"])),
    st.tuples(st.just("assistant"), st.lists(st.sampled_from(["a", "b", "x" * 50]), max_size=3)),
    st.tuples(st.just("result"), st.sampled_from(["a", "b", "x" * 50])),
)


@given(st.lists(TURNS, max_size=12), st.sampled_from([PLAIN, MISTRAL, THINKER, Caps(prefill=False, system=False)]))
def test_turns_in_any_order_make_messages_that_pass_the_rules(turns, caps):
    conversation = CheckedConversation(caps)
    for kind, what in turns:
        if kind == "user":
            conversation.user([text(what)])
        elif kind == "system":
            conversation.system(what)
        elif kind == "assistant":
            conversation.assistant(["So", *look(*what)], "/0")
        else:
            try:
                conversation.result(what, [text("1"), IMAGE], "/0")
            except Refused:
                continue
    assert conversation.messages()
