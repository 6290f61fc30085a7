"""Tests of the Gemini API's plugin: native requests keep their bytes, both forms of streams end correctly, and records
have the provider's counts and stop reasons.
"""

import json
from dataclasses import replace

import orjson
import pytest

from gateway.contract import errors
from gateway.contract.errors import BadFrame, Problem, Refused, Truncated, UpstreamFailed
from gateway.contract.flag import COUNT_TOKENS, Caps, Head, HttpRequest, Target, Usage
from gateway.testkit.laws.chunks import chunkings
from gateway.testkit.render import gemini as render_gemini
from gateway.testkit.scenarios import NAMED
from gateway_plugins import gemini_generate_content as flag
from gateway_plugins.dialects.gemini_generate_content import facts as gemini_facts

HEAD = Head(200, {})
BODY = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
ROUTES = {route.path: route for route in flag.routes}
TARGET = Target("p", "gemini_generate_content", "gemini-2.5-pro", "gemini_generate_content", Caps())
LAST = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP"}


def ask(method="streamGenerateContent", body=BODY, query="alt=sse", model="gemini-2.5-pro", version="v1beta"):
    route = ROUTES[f"/{version}/models/{{model:.+}}:{method}"]
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return flag.parse(HttpRequest(route, f"/{version}/models/{model}:{method}", query, {}, {"model": model}, data))


def chunk(*parts, finish="", **more):
    candidate = {"content": {"parts": list(parts), "role": "model"}}
    return {"candidates": [{**candidate, **({"finishReason": finish} if finish else {})}], **more}


def streamed(*chunks, form="sse"):
    """Return the bytes of a stream as Google writes them."""
    data = [orjson.dumps(one) for one in chunks]
    if form == "sse":
        return b"".join(b"data: " + one + b"\r\n\r\n" for one in data)
    return b"[" + b"\r\n,\r\n".join(data) + b"\n]\n"


def decoded(data, form="sse"):
    decoder = flag.decoder(ask(query="alt=sse" if form == "sse" else ""), TARGET, HEAD)
    events = [event for piece in ([data] if isinstance(data, bytes) else data) for event in decoder.feed(piece)]
    return [*events, *decoder.close()]


def facts_of(*chunks, head=HEAD):
    meter = flag.meter(ask(), TARGET, head)
    for event in decoded(streamed(*chunks)):
        meter.feed(event)
    return meter.facts()


both_forms = pytest.mark.parametrize("form", ["sse", "array"])


@pytest.mark.parametrize("version", ["v1beta", "v1", "v1alpha"])
@pytest.mark.parametrize(
    ("method", "query", "stream", "operation", "sent"),
    [
        ("generateContent", "", False, "generate", ""),
        ("generateContent", "alt=json&key=SECRET", False, "generate", ""),
        ("streamGenerateContent", "alt=sse", True, "generate", "alt=sse"),
        ("streamGenerateContent", "key=SECRET&alt=sse", True, "generate", "alt=sse"),
        ("streamGenerateContent", "", True, "generate", ""),
        ("streamGenerateContent", "%24alt=json%3Benum-encoding%3Dint", True, "generate", ""),
        ("countTokens", "", False, COUNT_TOKENS, ""),
    ],
)
def test_a_native_request_goes_out_as_it_came(version, method, query, stream, operation, sent):
    body = b'{ "contents":[ {"parts":[{"text":"hi"}]} ],"generationConfig":{"temperature":1.0}, "unknown": 1e2}'
    request = ask(method, body, query, version=version)
    assert (request.model, request.stream, request.operation) == ("gemini-2.5-pro", stream, operation)
    send = flag.build(request, TARGET, pytest.fail)
    assert (send.method, send.path) == ("POST", f"/v1beta/models/gemini-2.5-pro:{method}")
    assert (send.query, send.body) == (sent, body)


@pytest.mark.parametrize("query", ["alt=proto", "alt=media", "alt=sse&alt=proto", "$alt=proto"])
def test_a_form_that_cannot_be_metered_is_refused(query):
    with pytest.raises(Refused, match="alt"):
        ask(query=query)


def test_the_path_names_the_model_and_no_other_name_is_sent():
    renamed = replace(TARGET, model="tuned/x:y")
    send = flag.build(ask(body={"model": "models/other", **BODY}, model="models/a"), renamed, pytest.fail)
    assert (send.path, orjson.loads(send.body)) == ("/v1beta/models/tuned%2Fx%3Ay:streamGenerateContent", BODY)
    counted = {"generateContentRequest": {"model": "models/other", **BODY}}
    send = flag.build(ask("countTokens", counted, ""), TARGET, pytest.fail)
    assert orjson.loads(send.body)["generateContentRequest"] == {"model": "models/gemini-2.5-pro", **BODY}


@both_forms
@pytest.mark.parametrize("name", ["text", "thinking", "redacted", "cached", "unicode", "max_tokens"])
def test_a_stream_keeps_its_bytes_at_every_border(form, name):
    chunks = render_gemini.chunks(NAMED[name].reply, "m", 9)
    data = streamed(*chunks, form=form)
    for pieces in chunkings(data):
        events = decoded(pieces, form)
        assert b"".join(event.raw for event in events) == data
        assert [orjson.loads(event.payload) for event in events if event.payload] == chunks


@both_forms
def test_a_stream_without_its_end_is_cut(form):
    chunks = render_gemini.chunks(NAMED["text"].reply, "m", 9)
    data = streamed(*chunks, form=form)
    end = data.rindex(b"]") if form == "array" else len(data) - len(b"\r\n\r\n") - 1
    for cut in range(end):
        with pytest.raises((Truncated, BadFrame)):
            decoded(data[:cut], form)


@both_forms
@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, finish="STOP")], id="in every chunk"),
        pytest.param([chunk({"text": "a"}), chunk(finish="STOP"), {"usageMetadata": {}}], id="usage after it"),
        pytest.param([{"promptFeedback": {"blockReason": "SAFETY"}}], id="blocked prompt"),
        pytest.param([{"candidates": [{"finishReason": "SAFETY", "index": 0}]}], id="no content"),
        pytest.param([{"candidates": [{"index": 1}]}, {"candidates": [LAST, {**LAST, "index": 1}]}], id="two"),
        pytest.param([{}, {"candidates": []}, chunk(), chunk(finish="STOP")], id="empty chunks"),
        pytest.param([chunk({"newPart": {"x": 1}}), chunk({"text": None}, 7, finish="NEW_REASON")], id="unknown parts"),
    ],
)
def test_a_stream_that_is_complete_is_no_error(form, chunks):
    assert [event.data for event in decoded(streamed(*chunks, form=form), form) if event.payload] == chunks


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chunk({"text": "a"})],
        [chunk({"text": "a"}, finish="FINISH_REASON_UNSPECIFIED")],
        [{"candidates": [LAST, {"index": 1}]}],
        [chunk(finish="STOP"), chunk({"text": "a"})],
        [{"usageMetadata": {"promptTokenCount": 1}}],
    ],
)
def test_a_stream_that_no_chunk_finishes_is_cut(chunks):
    with pytest.raises(Truncated):
        decoded(streamed(*chunks))


def test_a_stream_is_known_to_be_done_if_an_earlier_chunk_was_not():
    """Check that a stream is complete at a finish reason if an earlier chunk had no finish reason.

    If even the first chunk has a finish reason, the stream is complete only when the connection ends.
    """
    decoder = flag.decoder(ask(), TARGET, HEAD)
    states = []
    stop = chunk(finish="STOP")
    for one in (chunk({"text": "a"}), stop, chunk({"text": "b"}), stop, {"usageMetadata": {"totalTokenCount": 3}}):
        assert list(decoder.feed(streamed(one)))
        states.append(decoder.done)
    assert states == [False, True, False, True, True]
    every = flag.decoder(ask(), TARGET, HEAD)
    assert list(every.feed(streamed(chunk({"text": "a"}, finish="STOP"))))
    assert not every.done


ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


@both_forms
def test_an_error_in_a_stream_comes_after_the_events_before_it(form):
    data = streamed(chunk({"text": "a"}), ERROR, form=form)
    for pieces in chunkings(data):
        decoder, events = flag.decoder(ask(query="alt=sse" if form == "sse" else ""), TARGET, HEAD), []
        feeding = (event for piece in pieces for event in decoder.feed(piece))
        with pytest.raises(UpstreamFailed) as raised:
            events.extend(feeding)
        assert [event.data for event in events if event.payload] == [chunk({"text": "a"})]
        problem = raised.value.problem
        assert (problem.code, problem.native, problem.status) == (errors.OVERLOADED, "UNAVAILABLE", 503)
        assert problem.message == "The model is overloaded."
        if form == "array":
            whole = b"".join(event.raw for event in events) + raised.value.raw
            assert orjson.loads(whole) == [chunk({"text": "a"}), ERROR]


def test_a_word_error_in_a_reply_is_no_error():
    text = chunk({"text": '"error"'}, finish="STOP", error=None)
    assert [event.data for event in decoded(streamed(text))] == [text]


@pytest.mark.parametrize(
    ("report", "usage", "exact"),
    [
        ({"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}, Usage(9, 4), True),
        (
            {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 5, "totalTokenCount": 18},
            Usage(9, 9, reasoning=5),
            True,
        ),
        (
            {"promptTokenCount": 9, "candidatesTokenCount": 9, "thoughtsTokenCount": 5, "totalTokenCount": 18},
            Usage(9, 9, reasoning=5),
            True,
        ),
        (
            {"promptTokenCount": 9, "cachedContentTokenCount": 6, "candidatesTokenCount": 4, "totalTokenCount": 13},
            Usage(3, 4, 6),
            True,
        ),
        (
            {"promptTokenCount": 9, "toolUsePromptTokenCount": 7, "candidatesTokenCount": 4, "totalTokenCount": 20},
            Usage(16, 4),
            True,
        ),
        ({"promptTokenCount": 9, "totalTokenCount": 13}, Usage(9, 4), True),
        ({"promptTokenCount": 9, "thoughtsTokenCount": 4, "totalTokenCount": 13}, Usage(9, 4, reasoning=4), True),
        ({"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 99}, Usage(9, 4), False),
        ({"promptTokenCount": 9, "cachedContentTokenCount": 99}, Usage(0, 0, 9), True),
        ({"promptTokenCount": -1, "candidatesTokenCount": True, "totalTokenCount": 1000.5}, Usage(), True),
        ({"promptTokenCount": 9.0, "candidatesTokenCount": "4", "totalTokenCount": 13}, Usage(9, 4), True),
        ({"promptTokenCount": 0, "totalTokenCount": 0}, Usage(), True),
    ],
)
def test_counts_become_the_kinds_that_are_billed(report, usage, exact):
    facts = facts_of(chunk({"text": "a"}, finish="STOP", usageMetadata=report))
    assert facts.usage == usage
    assert facts.inexact is not exact


def test_a_later_report_stands_and_a_missing_count_replaces_nothing():
    first = {"promptTokenCount": 9, "cachedContentTokenCount": 6, "candidatesTokenCount": 1, "totalTokenCount": 10}
    last = {"promptTokenCount": 9, "candidatesTokenCount": 8, "thoughtsTokenCount": 3, "totalTokenCount": 20}
    facts = facts_of(chunk({"text": "a"}, usageMetadata=first), chunk(finish="STOP", usageMetadata=last))
    assert (facts.usage, facts.reported) == (Usage(3, 11, 6, reasoning=3), True)


def test_modalities_with_prices_of_their_own_are_counted_apart():
    report = {
        "promptTokenCount": 100,
        "candidatesTokenCount": 50,
        "cachedContentTokenCount": 30,
        "toolUsePromptTokenCount": 5,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 40}, {"modality": "IMAGE", "tokenCount": 20}],
        "cacheTokensDetails": [{"modality": "IMAGE", "tokenCount": 12}, {"modality": "TEXT", "tokenCount": 18}],
        "toolUsePromptTokensDetails": [{"modality": "IMAGE", "tokenCount": 5}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 45}, {"modality": "TEXT", "tokenCount": 5}],
    }
    facts = facts_of(chunk({"text": "a"}, finish="STOP", usageMetadata=report))
    assert facts.extra == {"audio_input": 40, "image_input": 13, "image_output": 45}
    assert (facts.usage.input, facts.inexact) == (75, False)


@pytest.mark.parametrize(
    "more",
    [
        {"cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}]},
        {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}]},
    ],
)
def test_cached_sound_has_another_price_so_the_cost_is_an_estimate(more):
    report = {"promptTokenCount": 9, "cachedContentTokenCount": 6, "candidatesTokenCount": 1, **more}
    assert facts_of(chunk({"text": "a"}, finish="STOP", usageMetadata=report)).inexact


def test_searches_are_counted_once_and_their_cost_is_an_estimate():
    grounding = {"groundingMetadata": {"webSearchQueries": ["a", "b"], "groundingChunks": [{"web": {}}]}}
    chunks = [chunk({"text": "a"}), chunk(finish="STOP")]
    for one in chunks:
        one["candidates"][0] |= grounding
    facts = facts_of(*chunks)
    assert (facts.extra, facts.inexact) == ({"web_search": 2}, True)


@pytest.mark.parametrize(
    ("head", "report", "tier"),
    [
        ({"x-gemini-service-tier": "flex"}, {}, "flex"),
        ({}, {"serviceTier": "PRIORITY"}, "priority"),
        ({}, {"trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ({}, {"trafficType": "ON_DEMAND"}, ""),
        ({}, {}, ""),
    ],
)
def test_the_tier_comes_from_the_header_or_the_report(head, report, tier):
    usage = {"promptTokenCount": 1, **report}
    assert facts_of(chunk({"text": "a"}, finish="STOP", usageMetadata=usage), head=Head(200, head)).tier == tier


@pytest.mark.parametrize(
    ("chunks", "stop"),
    [
        ([chunk({"text": "a"}, finish="STOP"), chunk(finish="MAX_TOKENS")], "MAX_TOKENS"),
        ([chunk(finish="SAFETY")], "SAFETY"),
        ([{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}], "PROHIBITED_CONTENT"),
    ],
)
def test_the_stop_reason_is_googles_own(chunks, stop):
    assert facts_of(*chunks).stop == stop


def test_the_served_model_and_the_called_functions_are_recorded():
    call = {"functionCall": {"name": "look", "args": {"x": 1}}}
    pieces = [
        {"functionCall": {"name": "read", "willContinue": True}},
        {"functionCall": {"partialArgs": [{"jsonPath": "$.a", "stringValue": "abc"}], "willContinue": True}},
        {"functionCall": {}},
    ]
    chunks = [chunk(call, modelVersion="models/gemini-2.5-pro-001"), *map(chunk, pieces), chunk(finish="STOP")]
    facts = facts_of(*chunks)
    assert (facts.model, facts.tools) == ("gemini-2.5-pro-001", ["look", "read"])
    events = decoded(streamed(*chunks))
    assert [flag.output_bytes(event) for event in events] == [len('{"x":1}'), 0, len("abc"), 0, 0]


def test_output_is_text_thinking_and_code():
    parts = [
        {"text": "thought", "thought": True},
        {"text": "shown"},
        {"executableCode": {"code": "print(1)"}},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
    ]
    (event,) = decoded(streamed(chunk(*parts, finish="STOP")))
    assert flag.output_bytes(event) == len("thought" + "shown" + "print(1)")


@pytest.mark.parametrize(
    ("body", "counted"), [(b'{"totalTokens": 31}', 31), (b"{}", 0), (b'{"totalTokens": 7, "x": 1}', 7)]
)
def test_a_count_is_read_and_written_in_googles_form(body, counted):
    request = ask("countTokens", query="")
    neutral = flag.decoder(request, TARGET, HEAD).whole(body)
    assert orjson.loads(neutral) == {"input_tokens": counted}
    assert orjson.loads(flag.encoder(request).whole(neutral)) == {"totalTokens": counted}


@pytest.mark.parametrize("body", [b"{}", b'{"error": 1}', b"[]", b'{"message": "x"}'])
def test_a_body_that_is_no_reply_is_refused(body):
    with pytest.raises(BadFrame):
        flag.decoder(ask("generateContent", query=""), TARGET, HEAD).whole(body)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"maxOutputTokens": 100}, 100),
        ({"max_output_tokens": 100}, 100),
        ({"maxOutputTokens": 100, "candidateCount": 3}, 300),
        ({"candidateCount": 2}, 128_000),
        ({"maxOutputTokens": True}, None),
        ({}, None),
        ([], None),
        ("x", None),
    ],
)
def test_the_output_limit_is_that_of_all_candidates(config, limit):
    assert flag.limit(ask(body={**BODY, "generationConfig": config})) == limit
    assert flag.limit(ask(body={**BODY, "generation_config": config})) == limit


def test_a_call_without_settings_has_no_limit():
    assert flag.limit(ask()) is None


@both_forms
def test_an_error_of_the_gateway_ends_a_stream_in_its_form(form):
    request = ask(query="alt=sse" if form == "sse" else "")
    encoder = flag.encoder(request)
    (event,) = decoded(streamed(chunk({"text": "a"}, finish="STOP")))
    data = encoder.feed(event) + encoder.ping() + encoder.fail(Problem(errors.UPSTREAM, "cut"))
    error = {"error": {"code": 502, "message": "cut", "status": "INTERNAL"}}
    if form == "sse":
        assert json.loads(data.rpartition(b"data: ")[2]) == error
    else:
        assert orjson.loads(data) == [event.data, error]


@pytest.mark.parametrize("form", ["sse", ""])
def test_a_stream_has_the_content_type_of_its_form(form):
    assert flag.stream_type(ask(query=f"alt={form}")) == ("text/event-stream" if form else "application/json")
    assert flag.stream_type(replace(ask(query=""), flag="openai_chat")) == "text/event-stream"


def test_the_names_of_finish_reasons_are_disjoint():
    normal = {gemini_facts.STOP, gemini_facts.MAX_TOKENS, gemini_facts.CONTINUATION, gemini_facts.UNSPECIFIED}
    assert not normal & gemini_facts.REFUSALS
    assert not (normal | gemini_facts.REFUSALS) & gemini_facts.FAULTS
