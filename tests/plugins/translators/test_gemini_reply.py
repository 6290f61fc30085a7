"""Tests of the writer of Gemini replies: what it writes for the calls of its methods, streamed and unstreamed."""

from __future__ import annotations

import orjson
import pytest

from gateway.contract.flag import Usage
from gateway_plugins.dialects.gemini_generate_content.emit import ReplyOptions, Stream, Whole
from gateway_plugins.dialects.gemini_generate_content.signatures import unpacked
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.reply_events import Citation, Stop
from tests.helpers.fold import fold

END = ("finish", Stop(reply_events.END_TURN))
DONE = [END, ("usage", Usage(input=3, output=4))]
SIGNED = [("thinking", "h"), ("thinking", "m"), ("signature", "s1"), ("block_end",)]
HIDDEN = ("redacted", "d1")
CALL = [("tool", "c1", "look"), ("arguments", '{"a":'), ("arguments", "1}"), ("block_end",)]
BLOCKS = [{"thinking": "hm", "signature": "s1"}, {"data": "d1"}]


def written(*verbs, **options):
    """Call the methods in `verbs` on two writers: of a stream and of an unstreamed reply. Check that both replies are
    equal.

    Return the reply, the chunks of the stream, and the fields that were reported as dropped.
    """
    drops = []
    facts = ReplyOptions(**{"include_thoughts": True, **options})
    streamed, whole = Stream("m", drops.append, facts), Whole("m", [].append, facts)
    for name, *given in verbs:
        for writer in (streamed, whole):
            getattr(writer, name)(*given)
    streamed.close()
    chunks = [event.data for event in streamed.take()]
    response = fold("gemini_generate_content", [("chunk", chunk) for chunk in chunks])
    body = orjson.loads(whole.whole())
    assert {**body, "responseId": ""} == {**response, "responseId": ""}
    return body, chunks, drops


def parts(*verbs, **options):
    return written(*verbs, *DONE, **options)[0]["candidates"][0]["content"]["parts"]


def signed(part):
    return {**part, "thoughtSignature": unpacked(part["thoughtSignature"])} if "thoughtSignature" in part else part


def test_each_chunk_is_a_whole_response_and_the_last_has_the_end():
    _, chunks, _ = written(("start", "msg_1"), ("text", "Hel"), ("text", "lo"), ("block_end",), *DONE)
    assert chunks == [
        {
            "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, **ending, "index": 0}],
            "modelVersion": "m",
            "responseId": "1",
            **usage,
        }
        for text, ending, usage in (
            ("Hel", {}, {}),
            ("lo", {}, {}),
            (
                "",
                {"finishReason": "STOP"},
                {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}},
            ),
        )
    ]


def test_a_call_is_one_part_with_its_id_and_its_arguments():
    call = {"functionCall": {"id": "c1", "name": "look", "args": {"a": 1}}}
    assert parts(("text", "So."), *CALL, ("tool", "c2", "look"), ("block_end",)) == [
        {"text": "So."},
        call,
        {"functionCall": {"id": "c2", "name": "look", "args": {}}},
    ]


def test_arguments_that_are_no_object_are_shown_as_they_are():
    (part,) = parts(("tool", "c1", "look"), ("arguments", '{"a":'), ("block_end",))
    assert part["functionCall"]["args"] == {"rawInvalidInput": '{"a":'}


@pytest.mark.parametrize(
    ("verbs", "expected"),
    [
        (
            [*SIGNED, HIDDEN, ("text", "We"), ("text", "ll.")],
            [{"text": "hm", "thought": True}, {"text": "Well.", "thoughtSignature": BLOCKS}],
        ),
        (
            [HIDDEN, ("text", "Well."), ("block_end",), *SIGNED, *CALL, *CALL],
            [
                {"text": "Well.", "thoughtSignature": BLOCKS[1:]},
                {"text": "hm", "thought": True},
                {"functionCall": {"id": "c1", "name": "look", "args": {"a": 1}}, "thoughtSignature": BLOCKS[:1]},
                {"functionCall": {"id": "c1", "name": "look", "args": {"a": 1}}},
            ],
        ),
        (
            [("text", "Well."), ("block_end",), *SIGNED],
            [{"text": "Well."}, {"text": "hm", "thought": True}, {"text": "", "thoughtSignature": BLOCKS[:1]}],
        ),
        (
            [("signature", "s"), ("block_end",), *CALL],
            [
                {
                    "functionCall": {"id": "c1", "name": "look", "args": {"a": 1}},
                    "thoughtSignature": [{"thinking": "", "signature": "s"}],
                }
            ],
        ),
        ([("thinking", "hm"), ("block_end",), ("text", "So.")], [{"text": "hm", "thought": True}, {"text": "So."}]),
    ],
)
def test_thinking_is_in_the_signature_of_the_next_part(verbs, expected):
    assert list(map(signed, parts(*verbs))) == expected
    hidden = list(map(signed, parts(*verbs, include_thoughts=False)))
    assert hidden == [part for part in expected if not part.get("thought")]


@pytest.mark.parametrize(
    ("stop", "reason", "message"),
    [
        (Stop(reply_events.END_TURN, "end_turn"), "STOP", None),
        (Stop(reply_events.TOOL_USE, "tool_use"), "STOP", None),
        (Stop(reply_events.STOP_SEQUENCE, "stop_sequence", "END"), "STOP", None),
        (Stop(reply_events.MAX_TOKENS, "length"), "MAX_TOKENS", "length"),
        (Stop(reply_events.CONTEXT), "MAX_TOKENS", None),
        (Stop(reply_events.REFUSAL, "guardrail_intervened"), "SAFETY", "guardrail_intervened"),
        (Stop(reply_events.MALFORMED, "malformed_tool_use"), "MALFORMED_FUNCTION_CALL", "malformed_tool_use"),
    ],
)
def test_every_stop_reason_is_one_of_googles(stop, reason, message):
    body, _, _ = written(("text", "x"), ("finish", stop))
    (candidate,) = body["candidates"]
    assert (candidate["finishReason"], candidate.get("finishMessage")) == (reason, message)
    assert "promptFeedback" not in body


def test_a_prompt_that_a_filter_stopped_says_so():
    body, chunks, _ = written(("start",), ("finish", Stop(reply_events.REFUSAL, "content_filter")))
    assert (body["promptFeedback"], len(chunks)) == ({"blockReason": "SAFETY"}, 1)


def test_counts_of_thoughts_and_of_the_cache_are_googles():
    usage = Usage(input=3, output=10, cache_read=1000, cache_write_5m=20, cache_write_1h=5, reasoning=4)
    body, _, _ = written(("text", "x"), END, ("usage", usage, "priority"))
    assert body["usageMetadata"] == {
        "promptTokenCount": 1028,
        "cachedContentTokenCount": 1000,
        "candidatesTokenCount": 6,
        "thoughtsTokenCount": 4,
        "totalTokenCount": 1038,
    }


def test_a_reply_that_nobody_counts_has_no_usage():
    assert "usageMetadata" not in written(("text", "x"), END)[0]


def test_a_citation_with_a_url_has_its_place_in_bytes():
    verbs = [("text", "Grü"), ("text", "ße"), ("citation", Citation("web", source="https://example.com/1"))]
    other = [("block_end",), ("text", "é"), ("citation", Citation("web", source="http://example.com/2"))]
    body, _, drops = written(*verbs, ("citation", Citation("page", source="a.pdf")), *other, *DONE)
    assert body["candidates"][0]["citationMetadata"]["citationSources"] == [
        {"startIndex": 0, "endIndex": 7, "uri": "https://example.com/1"},
        {"startIndex": 7, "endIndex": 9, "uri": "http://example.com/2"},
    ]
    assert drops == ["/reply/citation"]


# answers that are no object

LIST = '{"answer": [{"city": "Bern"}, {"city": "}"}]}'


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (LIST, '[{"city": "Bern"}, {"city": "}"}]'),
        ('\n{\n  "answer"  :\n  ["a", "b"]\n}\n', '["a", "b"]'),
        ('{"answer":"a } b"}', '"a } b"'),
        ('{"answer":3} ', "3"),
        ('{"answer": ["cut', '["cut'),
        ('{"answer": [{"a": 1', '[{"a": 1'),
        ('{"ans', '{"ans'),
        ('{"other": [1]}', '{"other": [1]}'),
        ('["a"] {"answer": 1}', '["a"] {"answer": 1}'),
        (" " * 300 + "{", " " * 300 + "{"),
        ("Sorry.", "Sorry."),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_an_answer_is_taken_out_of_its_object(text, answer, size):
    pieces = [("text", text[at : at + size]) for at in range(0, len(text), size)]
    (part,) = parts(*pieces, in_object=True)
    assert part["text"] == answer
