"""Tests of defects 31 to 36 and 40 to 43 of other gateways, about replies: indexes, stop reasons, token counts.

Each defect is tested on every conversion. The number of a defect is in the names of its tests: `defect_NN`.
"""

import json

import pytest

from gateway.testkit.render.dialects import rendered
from gateway.testkit.scenarios import Canned, Tokens, Tool
from tests.defects.conversions import PAIRS, Conversion, both_ways, conversions
from tests.helpers.fold import fold

TWO_CALLS = Canned(
    thinking="Hm.", text=("Let ", "me look."), tools=(Tool("look", {"city": "Ulm"}), Tool("look", {"city": "Bern"}))
)
COUNTED = Canned(
    text=("Hello",), tokens=Tokens(input=3, output=7, cache_read=1000, cache_write_5m=200, cache_write_1h=50)
)
GEMINI = "gemini_generate_content"
"""Gemini's dialect. It has no count for tokens written to a cache, and includes these tokens in the count of input
tokens.
"""
REASONS = {
    # what clients of each dialect know; openai_responses: the status, or why it is incomplete
    "openai_chat": {"stop", "tool_calls", "length", "content_filter"},
    "openai_responses": {"completed", "max_output_tokens", "content_filter", "failed"},
    "anthropic_messages": {
        "end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "model_context_window_exceeded",
    },
    "bedrock_converse": {
        "end_turn", "tool_use", "max_tokens", "stop_sequence", "content_filtered", "guardrail_intervened",
        "model_context_window_exceeded", "malformed_model_output",
    },
    "gemini_generate_content": {"STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL"},
}  # fmt: skip
SAID = {
    # what is said of it, by dialect in the order of REASONS
    "end": ("stop", "completed", "end_turn", "end_turn", "STOP"),
    "limit": ("length", "max_output_tokens", "max_tokens", "max_tokens", "MAX_TOKENS"),
    "calls": ("tool_calls", "completed", "tool_use", "tool_use", "STOP"),
    "sequence": ("stop", "completed", "stop_sequence", "stop_sequence", "STOP"),
    "filtered": ("content_filter", "content_filter", "refusal", "content_filtered", "SAFETY"),
    "window": ("length", "max_output_tokens", *["model_context_window_exceeded"] * 2, "MAX_TOKENS"),
    "malformed": ("stop", "failed", "end_turn", "malformed_model_output", "MALFORMED_FUNCTION_CALL"),
}
NATIVE = [
    # the provider's dialect and word, and which of SAID a client hears
    ("anthropic_messages", "end_turn", "end"),
    ("anthropic_messages", "max_tokens", "limit"),
    ("anthropic_messages", "stop_sequence", "sequence"),
    ("anthropic_messages", "refusal", "filtered"),
    ("anthropic_messages", "model_context_window_exceeded", "window"),
    ("anthropic_messages", "pause_turn", "end"),
    ("anthropic_messages", "a_reason_to_come", "end"),
    ("bedrock_converse", "end_turn", "end"),
    ("bedrock_converse", "max_tokens", "limit"),
    ("bedrock_converse", "stop_sequence", "sequence"),
    ("bedrock_converse", "content_filtered", "filtered"),
    ("bedrock_converse", "guardrail_intervened", "filtered"),
    ("bedrock_converse", "model_context_window_exceeded", "window"),
    ("bedrock_converse", "malformed_model_output", "malformed"),
    ("bedrock_converse", "malformed_tool_use", "malformed"),
    ("bedrock_converse", "a_reason_to_come", "end"),
    ("openai_chat", "stop", "end"),
    ("openai_chat", "length", "limit"),
    ("openai_chat", "content_filter", "filtered"),
    ("openai_chat", "a_reason_to_come", "end"),
]


def ended(upstream, canned, word):
    """Replace the stop reason in a provider's reply by `word`. Return the reply as (events, unstreamed body)."""
    events, whole = rendered(upstream, canned)
    text = json.dumps([events, whole])
    for own in ("stop_reason", "stopReason", "finish_reason"):
        for usual in ("end_turn", "tool_use", "stop", "tool_calls"):
            text = text.replace(f'"{own}": "{usual}"', f'"{own}": "{word}"')
    events, whole = json.loads(text)
    return events, whole


def heard_stop(conversion, reply, *, stream, **wishes):
    stop = conversion.read_reply(reply, stream=stream, **wishes).stop
    assert stop in REASONS[conversion.client]
    return stop


def word_of(conversion, stop):
    return dict(zip(REASONS, SAID[stop], strict=True))[conversion.client]


@conversions(clients=("openai_chat",))
def test_defect_31_and_32_calls_and_choices_are_numbered_from_0(conversion):
    """Check that tool calls and choices are numbered from 0, whatever blocks come before them."""
    body = {
        **conversion.say.body(conversion.say.user(conversion.say.text("Hi")), tools=[conversion.say.tool()]),
        "stream": True,
    }
    translation = conversion.opened(body, stream=True).translation
    chunks = [data for _, data in conversion.events(translation, rendered(conversion.upstream, TWO_CALLS)[0])]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]
    assert {choice["index"] for choice in choices} == {0}
    assert list(dict.fromkeys(call["index"] for call in calls)) == [0, 1]
    assert [call["index"] for call in calls if "id" in call] == [0, 1]


@conversions(upstreams=("openai_chat",))
def test_defect_31_calls_that_a_provider_numbers_from_1_are_told_apart(conversion):
    events, _ = rendered("openai_chat", TWO_CALLS)
    for _, chunk in events:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                call["index"] += 1
    translation = conversion.opened(
        conversion.say.body(conversion.say.user(conversion.say.text("Hi"))), stream=True
    ).translation
    heard = conversion.say.read_reply(fold(conversion.client, conversion.events(translation, events)))
    assert [given for _, _, given in heard.calls] == [{"city": "Ulm"}, {"city": "Bern"}]


@both_ways
@conversions()
def test_defect_33_a_reply_with_calls_says_that_there_is_something_to_do(conversion, stream):
    assert heard_stop(conversion, TWO_CALLS, stream=stream, tools=[conversion.say.tool()]) == word_of(
        conversion, "calls"
    )


@both_ways
@conversions()
def test_defect_33_a_call_counts_in_a_turn_that_is_over(conversion, stream):
    """Check that a reply with a tool call has the stop reason of a tool call, even if the provider reports the end of a
    turn.
    """
    reply = ended(conversion.upstream, TWO_CALLS, "stop" if conversion.upstream == "openai_chat" else "end_turn")
    assert heard_stop(conversion, reply, stream=stream, tools=[conversion.say.tool()]) == word_of(conversion, "calls")


@both_ways
@pytest.mark.parametrize(
    ("conversion", "word", "stop"),
    [
        pytest.param(Conversion(client, upstream), word, stop, id=f"{client}-{upstream}-{word}")
        for client, upstream in PAIRS
        for dialect, word, stop in NATIVE
        if dialect == upstream
    ],
)
def test_defect_34_every_reason_has_a_word_that_the_client_knows(conversion, word, stop, stream):
    reply = ended(conversion.upstream, Canned(text=("Well.",)), word)
    assert heard_stop(conversion, reply, stream=stream) == word_of(conversion, stop)


@both_ways
@conversions(clients=("anthropic_messages", "bedrock_converse"))
def test_defect_35_the_stop_sequence_that_was_met_is_named(conversion, stream):
    events, whole = ended(conversion.upstream, Canned(text=("Well.",)), "stop_sequence")
    text = json.dumps([events, whole]).replace('"stop_sequence": null', '"stop_sequence": "END"')
    text = text.replace('"stopReason": "stop_sequence"', '"stopReason": "stop_sequence", "additionalModelResponseFields": {"stop_sequence": "END"}')  # fmt: skip
    text = text.replace('"finish_reason": "stop_sequence"', '"finish_reason": "stop", "stop_reason": "END"')
    request = (
        {"additionalModelResponseFieldPaths": ["/stop_sequence"]} if conversion.client == "bedrock_converse" else {}
    )
    body = conversion.reply_body(tuple(json.loads(text)), stream=stream, **request)
    assert conversion.say.read_reply(body).stop == "stop_sequence"
    assert (body.get("stop_sequence") or body["additionalModelResponseFields"]["stop_sequence"]) == "END"


@both_ways
@conversions(clients=("openai_chat",))
def test_defect_35_the_providers_own_word_is_told_beside_openais(conversion, stream):
    reply = ended(conversion.upstream, Canned(text=("Well.",)), "stop_sequence")
    events, _ = reply
    body = {**conversion.say.body(conversion.say.user(conversion.say.text("Hi"))), "stream": stream}
    translation = conversion.opened(body, stream=stream).translation
    text = json.dumps(
        conversion.events(translation, events)
        if stream
        else json.loads(translation.whole(json.dumps(reply[1]).encode()))
    )
    assert '"native_finish_reason": "stop_sequence"' in text


@both_ways
@conversions()
def test_defect_36_calls_that_the_limit_cut_off_end_by_the_limit(conversion, stream):
    reply = ended(conversion.upstream, TWO_CALLS, "length" if conversion.upstream == "openai_chat" else "max_tokens")
    assert heard_stop(conversion, reply, stream=stream, tools=[conversion.say.tool()]) == word_of(conversion, "limit")


@both_ways
@conversions()
def test_defect_40_and_41_counts_of_the_cache_arrive_apart_from_the_inputs(conversion, stream):
    heard = conversion.read_reply(COUNTED, stream=stream)
    written = 0 if conversion.upstream == "openai_chat" or conversion.client == GEMINI else 250
    assert (heard.input, heard.read, heard.written, heard.output) == (253 - written, 1000, written, 7)


@conversions(clients=("anthropic_messages",))
def test_defect_42_the_last_delta_has_all_counts(conversion):
    """Check that the last `message_delta` has the counts of the input and of the cache."""
    translation = conversion.opened(
        conversion.say.body(conversion.say.user(conversion.say.text("Hi"))), stream=True
    ).translation
    events = conversion.events(translation, rendered(conversion.upstream, COUNTED)[0])
    (usage,) = [data["usage"] for kind, data in events if kind == "message_delta"]
    assert usage["input_tokens"] in {3, 253}
    assert (usage["cache_read_input_tokens"], usage["output_tokens"]) == (1000, 7)


@conversions(upstreams=("anthropic_messages",))
def test_defect_43_counts_of_two_events_are_not_summed(conversion):
    """Check that the token counts in `message_start` and in `message_delta` are not added up."""
    events, _ = rendered(conversion.upstream, COUNTED)
    usage = events[0][1]["message"]["usage"]
    events = [(kind, {**data, "usage": {**usage, "output_tokens": 7}}) if kind == "message_delta" else (kind, data) for kind, data in events]  # fmt: skip
    heard = conversion.read_reply((events, None), stream=True)
    written = 0 if conversion.client == GEMINI else 250
    assert (heard.input, heard.read, heard.written, heard.output) == (253 - written, 1000, written, 7)


@conversions(upstreams=("openai_chat",))
def test_defect_43_counts_that_come_with_every_chunk_are_not_summed(conversion):
    events, _ = rendered(conversion.upstream, COUNTED)
    usage = events[-1][1]["usage"]
    heard = conversion.read_reply(([(kind, {**chunk, "usage": usage}) for kind, chunk in events], None), stream=True)
    assert (heard.input, heard.read, heard.output) == (253, 1000, 7)
