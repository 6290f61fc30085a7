"""Tests of Gemini's replies for clients of other dialects: stop reasons, blocked prompts, counts, and signatures, which
the client sends back.
"""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_plugins.shared.reasoning import PREFIX
from tests.helpers.clients import CLIENTS as READERS
from tests.helpers.fold import fold
from tests.helpers.second_turn import BASES, CLIENTS, asked, body, second_turn
from tests.helpers.translation import Translator, client_events

GEMINI = "gemini_generate_content"
MODEL = "gemini-3-pro-preview"
TRANSLATED = [client for client in CLIENTS if client != GEMINI]
SIGNATURE, OTHER = "U0lHTkFUVVJF" * 900, "T1RIRVI="
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
clients = pytest.mark.parametrize("client", TRANSLATED)
streamed = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def text(value, **more):
    return {"text": value, **more}


def call(call_id="c1", signature="", **args):
    signed = {"thoughtSignature": signature} if signature else {}
    return {"functionCall": {"id": call_id, "name": "f", "args": args}, **signed}


def reply(parts, finish="STOP", usage=USAGE, **more):
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0, **more}
    return {"candidates": [candidate], "usageMetadata": usage, "responseId": "r1", "modelVersion": MODEL}


def chunks(parts, finish="STOP", usage=USAGE):
    """Return the stream of a reply, with one part in each chunk."""
    made = [("chunk", {"candidates": [{"content": {"role": "model", "parts": [part]}}]}) for part in parts]
    return [*made, ("chunk", {"candidates": [{"finishReason": finish}], "usageMetadata": usage})]


def raw_answer(client, whole, events=None):
    """Return the client's reply and the reported losses.

    The provider's reply is the body `whole`, or a stream if `events` is given.
    """
    more = {"stream_options": {"include_usage": True}} if client == "openai_chat" else {}
    opened = Translator(client, GEMINI, BASES[client], MODEL).open(
        body(client, asked(client)) | more, stream=events is not None, judged=False
    )
    if events is None:
        return orjson.loads(opened.translation.whole(orjson.dumps(whole))), opened.dropped
    return fold(client, client_events(opened.translation, events)), opened.dropped


def answer(client, whole, events=None):
    made, dropped = raw_answer(client, whole, events)
    return READERS[client].read_reply(made), dropped


THOUGHT = text("plan", thought=True)
SIGNED = {
    "a call": [call(signature=SIGNATURE, a=1)],
    "the first of two calls": [call(signature=SIGNATURE, a=1), call("c2", a=2)],
    "both calls": [call(signature=SIGNATURE, a=1), call("c2", OTHER, a=2)],
    "the second of two calls": [call(a=1, signature="c2tpcA=="), call("c2", OTHER, a=2)],
    "a call after text": [text("So."), call(signature=SIGNATURE)],
    "text": [text("So.", thoughtSignature=SIGNATURE)],
    "text and call": [text("So.", thoughtSignature=OTHER), call(signature=SIGNATURE)],
    "a call after a thought": [THOUGHT, call(signature=SIGNATURE)],
    "a text after a thought": [THOUGHT, text("So.", thoughtSignature=SIGNATURE)],
    "a thought itself": [text("plan", thought=True, thoughtSignature=OTHER), call(signature=SIGNATURE)],
    "an unsigned thought": [THOUGHT, text("So.")],
    "thoughts between calls": [THOUGHT, call(signature=SIGNATURE), text("more", thought=True), call("c2", OTHER)],
}


@streamed
@clients
@pytest.mark.parametrize("case", SIGNED)
def test_a_signature_goes_back_on_its_part(case, client, streamed):
    parts = SIGNED[case]
    sent, dropped = second_turn(client, GEMINI, MODEL, reply(parts), chunks(parts) if streamed else None)
    assert sent["contents"][1] == {"role": "model", "parts": parts}
    assert dropped == []


@clients
def test_a_signature_at_the_end_of_a_stream_goes_back_with_the_text(client):
    """Check a stream whose last part has a signature but no text. The next request has this signature on the text
    before it.
    """
    events = chunks([text("So "), text("it is."), text("", thoughtSignature=SIGNATURE)])
    sent, dropped = second_turn(client, GEMINI, MODEL, None, events)
    assert sent["contents"][1]["parts"] == [text("So it is.", thoughtSignature=SIGNATURE)]
    assert dropped == []


@clients
def test_a_call_without_a_signature_skips_the_check(client):
    sent, _ = second_turn(client, GEMINI, MODEL, reply([call("c1"), call("c2")]))
    parts = sent["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["skip_thought_signature_validator", None]


@clients
@pytest.mark.parametrize("then", ["openai_chat", "anthropic_messages", "bedrock_converse"])
def test_a_signature_goes_to_no_other_family(client, then):
    if client == then:
        return
    models = {"openai_chat": "gpt-5.4", "anthropic_messages": "claude-sonnet-4-6"}
    model = models.get(then, "anthropic.claude-sonnet-4-6")
    sent, dropped = second_turn(
        client, GEMINI, MODEL, reply([THOUGHT, call(signature=SIGNATURE)]), then=(then, model), judged=False
    )
    assert PREFIX not in str(sent)
    assert dropped


END, LIMIT, REFUSAL, FAULT = range(4)
FINISHES = {
    END: ("STOP", "SOMETHING_NEW", "FINISH_REASON_UNSPECIFIED"),
    LIMIT: ("MAX_TOKENS", "CONTINUATION"),
    REFUSAL: (
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR",
    ),
    FAULT: ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "OTHER"),
}  # fmt: skip
STOPS = {
    # client: its stop reasons for the four kinds
    "anthropic_messages": ("end_turn", "max_tokens", "refusal", "end_turn"),
    "bedrock_converse": ("end_turn", "max_tokens", "content_filtered", "malformed_model_output"),
    "openai_chat": ("stop", "length", "content_filter", "stop"),
    "openai_responses": ("completed", "max_output_tokens", "content_filter", "failed"),
}


@streamed
@pytest.mark.parametrize(("kind", "finish"), [(kind, each) for kind, names in FINISHES.items() for each in names])
@clients
def test_a_finish_reason_has_its_counterpart(client, kind, finish, streamed):
    parts = [text("So")]
    got, _ = answer(client, reply(parts, finish), chunks(parts, finish) if streamed else None)
    assert (got.text, got.stop) == ("So", STOPS[client][kind])


@streamed
@clients
@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SOMETHING_NEW"])
def test_a_blocked_prompt_is_a_refusal_without_text(client, reason, streamed):
    blocked = {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 10}}
    got, dropped = answer(client, blocked, [("chunk", blocked)] if streamed else None)
    assert (got.text, got.stop, dropped) == ("", STOPS[client][REFUSAL], [])


@clients
def test_a_finish_reason_in_every_chunk_ends_the_reply_once(client):
    candidates = [{"content": {"parts": [text(piece)]}, "finishReason": "STOP"} for piece in ("a", "b", "c")]
    events = [("chunk", {"candidates": [each], "usageMetadata": USAGE}) for each in candidates]
    got, _ = answer(client, None, events)
    assert got.text == "abc"


@streamed
@clients
def test_calls_end_the_turn_whatever_the_reason_says(client, streamed):
    parts = [call("", a=1), call("", a=2), call("x"), call("x")]
    got, _ = answer(client, reply(parts), chunks(parts) if streamed else None)
    assert len({call_id for call_id, *_ in got.calls} - {""}) == 4
    assert [arguments for *_, arguments in got.calls] == [{"a": 1}, {"a": 2}, {}, {}]
    assert got.stop in {"tool_use", "tool_calls", "completed"}


@streamed
@clients
def test_cached_and_thought_tokens_are_counted_once(client, streamed):
    usage = {
        "promptTokenCount": 1000, "cachedContentTokenCount": 800, "candidatesTokenCount": 40,
        "thoughtsTokenCount": 60, "toolUsePromptTokenCount": 5, "totalTokenCount": 1105,
    }  # fmt: skip
    parts = [text("a")]
    made, _ = raw_answer(client, reply(parts, usage=usage), chunks(parts, usage=usage) if streamed else None)
    got = READERS[client].read_reply(made)
    assert (got.input, got.read, got.written, got.output) == (205, 800, 0, 100)
    if client == "openai_chat":
        assert made["usage"]["completion_tokens_details"]["reasoning_tokens"] == 60
    if client == "openai_responses":
        assert made["usage"]["output_tokens_details"]["reasoning_tokens"] == 60


UNMAPPED = {
    "inlineData": {"mimeType": "image/png", "data": "AA=="},
    "executableCode": {"language": "PYTHON", "code": "1"},
    "codeExecutionResult": {"outcome": "OUTCOME_OK"},
    "toolCall": {"id": "t"},
    "telepathy": {"thoughts": "x"},
}


@streamed
@clients
@pytest.mark.parametrize("kind", UNMAPPED)
def test_a_part_that_no_other_dialect_has_is_reported(client, kind, streamed):
    parts = [text("So"), {kind: UNMAPPED[kind]}]
    got, dropped = answer(client, reply(parts), chunks(parts) if streamed else None)
    assert got.text == "So"
    assert dropped == [f"/reply/{kind}"]


PARTS = st.sampled_from(
    [
        text("a"), text(" b"), text(""), THOUGHT, text("c", thoughtSignature=SIGNATURE), call("c1"),
        call("c2", OTHER, x="y"), call(""), text("", thoughtSignature=OTHER), {"text": 5}, {"functionCall": "f"},
    ]
)  # fmt: skip


@settings(max_examples=25)
@given(parts=st.lists(PARTS, max_size=8))
def test_a_stream_says_what_the_whole_reply_says(parts):
    for client in TRANSLATED:
        whole, _ = answer(client, reply(parts))
        stream, _ = answer(client, None, chunks(parts))
        assert whole.without_ids() == stream.without_ids()
