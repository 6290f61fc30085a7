"""Tests of the methods that each reader of replies (`dialects/*/walk.py`) calls on its writer, in order."""

import orjson
import pytest

from gateway.contract.errors import BadFrame
from gateway.contract.flag import Event, Usage, event
from gateway_plugins.dialects.anthropic_messages import walk as messages_walk
from gateway_plugins.dialects.bedrock_converse import walk as converse_walk
from gateway_plugins.dialects.openai_chat import walk as chat_walk
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.reasoning import Maker
from gateway_plugins.shared.reply_events import Citation, Stop
from gateway_plugins.shared.tools import Names


class RecordingWriter:
    """A writer that records its calls and joins consecutive pieces of the same kind."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, method):
        def record(*values):
            last = self.calls[-1] if self.calls else ("", "")
            if method in {"text", "thinking", "arguments"} and last[0] == method:
                self.calls[-1] = (method, last[1] + values[0])
            else:
                self.calls.append((method, *values))

        return record


def streamed(walk, *events, names=None, schema_tool="", drops=None):
    writer = RecordingWriter()
    reader = walk.Reader(names or Names(), schema_tool, Maker("fam", "p"), (drops if drops is not None else []).append)
    for each in events:
        reader.event(each, writer)
    reader.end(writer, Marks())
    return writer.calls


def whole(walk, body, schema_tool="", drops=None):
    writer = RecordingWriter()
    reader = walk.Reader(Names(), schema_tool, Maker("fam", "p"), (drops if drops is not None else []).append)
    reader.whole(orjson.dumps(body), writer)
    reader.end(writer, Marks())
    return writer.calls


# Chat


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return event("chat.completion.chunk", {"id": "c1", "choices": [choice], **more})


def called(index, arguments=None, tool_id=None, name=None):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    entry = {"index": index, "id": tool_id, "function": function}
    return chunk({"tool_calls": [{key: value for key, value in entry.items() if value is not None}]})


def chat(*events, **more):
    return streamed(chat_walk, *events, **more)


def test_a_chat_stream_is_told_in_order_with_its_usage_behind_the_end():
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    assert chat(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk(finish="stop"),
        event("chat.completion.chunk", {"choices": [], "usage": usage}),
        Event("done", b"[DONE]"),
    ) == [
        ("start", "c1"),
        ("text", "Hello"),
        ("finish", Stop("end_turn", "stop")),
        ("usage", Usage(input=6, output=2, cache_read=4), ""),
    ]


def test_calls_whose_pieces_come_mixed_are_told_one_after_the_other():
    assert chat(
        called(0, "", "a", "f"),
        called(1, "", "b", "g"),
        called(1, '{"y":'),
        called(0, '{"x":'),
        called(0, "1}"),
        called(1, "2}"),
        chunk(finish="tool_calls"),
    )[1:] == [
        ("tool", "a", "f"),
        ("arguments", '{"x":1}'),
        ("block_end",),
        ("tool", "b", "g"),
        ("arguments", '{"y":2}'),
        ("block_end",),
        ("finish", Stop("tool_use", "tool_calls")),
    ]


def test_a_call_is_told_while_it_grows():
    calls = chat(called(0, "", "a", "f"), called(0, '{"x'))
    assert calls[1:] == [("tool", "a", "f"), ("arguments", '{"x')]


def test_the_call_behind_a_complete_one_is_told_at_once():
    calls = chat(called(0, "{}", "a", "f"), called(1, '{"y', "b", "g"))
    assert calls[1:] == [
        ("tool", "a", "f"),
        ("block_end",),
        ("tool", "b", "g"),
        ("arguments", '{"y'),
    ]


def test_a_renamed_calls_input_precedes_the_text_behind_it():
    """Check the order if a text follows a tool call whose properties have aliases: the call's input is written before
    the text.
    """
    names = Names()
    (alias,) = names.plain_input({"a b": 1})
    events = (called(0, f'{{"{alias}":1}}', "t", "f"), chunk({"content": "Hi"}), chunk(finish="tool_calls"))
    assert chat(*events, names=names)[1:5] == [
        ("tool", "t", "f"),
        ("arguments", '{"a b":1}'),
        ("block_end",),
        ("text", "Hi"),
    ]


def test_more_of_a_call_that_was_complete_is_an_error_and_not_lost():
    with pytest.raises(BadFrame, match="complete"):
        chat(called(0, "{}", "a", "f"), called(1, "{", "b", "g"), called(0, "1"))


def test_indexes_that_begin_at_one_or_are_missing_make_calls_all_the_same():
    for first, second in ((1, 2), (None, None)):
        calls = chat(called(first, "{}", "a", "f"), called(second, "{}", "b", "g"), chunk(finish="tool_calls"))
        assert [call for call in calls if call[0] == "tool"] == [("tool", "a", "f"), ("tool", "b", "g")]


def test_a_call_without_an_id_gets_one():
    ((_, tool_id, name),) = [call for call in chat(called(0, "{}", None, "f")) if call[0] == "tool"]
    assert tool_id.startswith("call_")
    assert name == "f"


def test_chat_reasoning_is_marked_and_ends_at_the_answer():
    """Check that a Chat model's reasoning is one block, signed with the gateway's tag, that ends where the answer
    begins.
    """
    assert chat(chunk({"reasoning_content": "Hm"}), chunk({"content": "Yes"}))[1:] == [
        ("thinking", "Hm"),
        ("signature", "irisgate1:fam:"),
        ("block_end",),
        ("text", "Yes"),
    ]


def test_a_refusal_without_a_filter_is_a_refusal():
    assert chat(chunk({"refusal": "No."}), chunk(finish="stop"))[1:] == [
        ("refusal", "No."),
        ("finish", Stop("refusal", "stop")),
    ]


def test_what_chat_has_and_no_verb_is_dropped_aloud():
    drops = []
    chat(chunk({"audio": {"data": "x"}, "annotations": [{"type": "file_citation"}]}), drops=drops)
    assert sorted(drops) == ["/reply/annotations", "/reply/audio"]


def test_a_whole_chat_reply_tells_what_its_stream_tells():
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    message = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm", "tool_calls": [call]}
    body = {"id": "c1", "choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 1}}
    assert whole(chat_walk, body) == [
        ("start", "c1"),
        ("thinking", "Hm"),
        ("signature", "irisgate1:fam:"),
        ("block_end",),
        ("text", "Hi"),
        ("tool", "a", "f"),
        ("arguments", '{"x":1}'),
        ("block_end",),
        ("finish", Stop("tool_use", "tool_calls")),
        ("usage", Usage(input=1), ""),
    ]


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": 1}]}])
def test_a_whole_chat_reply_without_a_message_is_no_reply(body):
    with pytest.raises(BadFrame):
        whole(chat_walk, body)


def test_the_input_of_the_format_tool_is_text_and_no_call():
    """Check that a call of the schema tool, which the gateway adds for structured output, becomes the text of the
    answer.
    """
    calls = chat(called(0, '{"a":1}', "t", "answer"), chunk(finish="tool_calls"), schema_tool="answer")
    assert calls[1:] == [("text", '{"a":1}'), ("block_end",), ("finish", Stop("end_turn", "tool_calls"))]


# Converse and Messages, what only they have


def test_places_of_citations_are_told_alike_by_converse_and_messages():
    converse = {
        "citation": {
            "title": "T",
            "source": "s",
            "sourceContent": [{"text": "wo"}, {"text": "rds"}],
            "location": {"documentPage": {"documentIndex": 1, "start": 2, "end": 3}},
        }
    }
    messages = {
        "type": "page_location",
        "cited_text": "words",
        "document_title": "T",
        "source": "s",
        "document_index": 1,
        "start_page_number": 2,
        "end_page_number": 3,
    }
    by_converse = streamed(
        converse_walk,
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "A"}}),
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": converse}),
    )
    by_messages = streamed(
        messages_walk,
        event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": "A"}}),
        event("content_block_delta", {"index": 0, "delta": {"type": "citations_delta", "citation": messages}}),
    )
    assert by_converse == by_messages == [("text", "A"), ("citation", Citation("page", "words", "T", "s", 1, 2, 3))]


@pytest.mark.parametrize("fields", [{"stop_sequence": "END"}, {"delta": {"stop_sequence": "END"}}])
def test_the_stop_sequence_is_read_where_converse_was_asked_for_it(fields):
    data = {"stopReason": "stop_sequence", "additionalModelResponseFields": fields}
    assert streamed(converse_walk, event("messageStop", data)) == [
        ("finish", Stop("stop_sequence", "stop_sequence", "END"))
    ]


def test_hidden_thinking_of_converse_is_unwrapped_and_tagged():
    # the bytes of redactedContent are Anthropic's base64 text
    delta = {"reasoningContent": {"redactedContent": "ZW5jcnlwdGVk"}}
    assert streamed(
        converse_walk,
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta}),
        event("contentBlockStop", {"contentBlockIndex": 0}),
    ) == [("redacted", "irisgate1:fam:encrypted"), ("block_end",)]


@pytest.mark.parametrize("native", ["malformed_model_output", "malformed_tool_use"])
def test_malformed_output_of_converse_is_told_as_such(native):
    assert streamed(converse_walk, event("messageStop", {"stopReason": native})) == [
        ("finish", Stop("malformed", native))
    ]
