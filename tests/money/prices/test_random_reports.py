"""Tests with random usage reports that pass through a running gateway. Each recorded cost must equal the bill that
`helpers/bill.py` computes.

These are random:

- The client, whether it streams, and the cache marks in its request.
- The number, order and counts of the reports, the parts of a call that are billed separately, service tiers and
  geographies.
- The places at which the reply's bytes are split or cut off.
"""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.helpers.bill import BILLS, KINDS
from tests.helpers.clients import CLIENTS
from tests.helpers.fold import fold, read_stream
from tests.helpers.gateway import HAIKU, KEY, gate
from tests.helpers.scripted import scripted
from tests.helpers.wires import WIRES, framed
from tests.money.prices.test_parts import body_of

OPUS = {
    "": ("5", "25", "0.5", "6.25", "10"),
    "standard": ("5", "25", "0.5", "6.25", "10"),
    "batch": ("2.5", "12.5", "0.25", "3.125", "5"),
}
OPUS_DIRECT = {
    **{(model, tier): row for model in ("", "claude-opus-4-8") for tier, row in OPUS.items()},
    ("", "fast"): ("10", "50", "1", "12.5", "20"),
}
HAIKU_US = {
    ("", ""): ("1.1", "5.5", "0.11", "1.375", "2.2"),
    ("claude-opus-4-8", ""): ("5.5", "27.5", "0.55", "6.875", "11"),
}
PROVIDERS = {
    # the called model, its price list, and prices of a million tokens by model ("" is the called one) and tier
    "anthropic_messages": ("claude-opus-4-8", "anthropic", OPUS_DIRECT),
    "bedrock_model_invoke": (HAIKU, "bedrock-us", HAIKU_US),
    "bedrock_converse": (HAIKU, "bedrock-us", HAIKU_US),
    "openai_chat": ("gpt-4o", "openai", {("", ""): ("2.5", "10", "1.25", "0", "0")}),
    "openai_responses": ("gpt-5", "openai", {("", ""): ("1.25", "10", "0.125", "0", "0")}),
}
providers = pytest.mark.parametrize("line", PROVIDERS, indirect=True)

some = settings(
    max_examples=15, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow],
)  # fmt: skip


class Line:
    """A gateway, and a scripted provider that has one API format. Both run on an event loop of their own."""

    def __init__(self, provider, state):
        self.provider = provider
        self.model, self.basis, self.prices = PROVIDERS[provider]
        self.clients = sorted({wire.client for wire in WIRES if wire.provider == provider})
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.runner.run(self._open(state))

    async def _open(self, state):
        self.upstream = await self.stack.enter_async_context(scripted())
        options = {"models": [self.model], "cost_basis": self.basis, "compatibility": {self.provider: True}}
        settings = {"baseurl": self.upstream.url, "apikey": KEY, "authorization": "bearer", **options}
        self.gw = await self.stack.enter_async_context(gate(state, {self.provider: settings}))

    def close(self):
        self.runner.run(self.stack.aclose())
        self.runner.close()

    def call(self, client, ttls, answer, content_type, *, stream, cuts=()):
        """Make a call to which the provider answers with the bytes `answer`. Return the call's record, and the response
        that the client gets.
        """
        self.gw.lines.data = b""  # the lines of all earlier calls would make each reading of the log slower
        self.upstream.answer(answer, content_type, cuts=cuts)
        say = CLIENTS[client]
        body = body_of(say, ttls)
        if "model" in body:
            body = {**body, "model": f"{self.provider}/{self.model}", "stream": stream}
        if stream and client == "openai_chat":
            body["stream_options"] = {"include_usage": True}
        response = self.runner.run(self.gw.post(say.path(f"{self.provider}/{self.model}", stream=stream), body))
        (record,) = self.runner.run(self.gw.calls())
        return record, response


@pytest.fixture
def line(request, tmp_path):
    opened = Line(request.param, tmp_path)
    yield opened
    opened.close()


counts = st.integers(0, 5) | st.integers(0, 100_000)
maybe = st.none() | counts


def members(**values):
    """Draw an object in which each member is missing, null or a count."""
    return st.fixed_dictionaries({}, optional=values)


LIVES = members(ephemeral_5m_input_tokens=counts, ephemeral_1h_input_tokens=counts)
ITERATION = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["message", "compaction", "advisor_message"]),
        "input_tokens": counts, "output_tokens": counts,
        "cache_read_input_tokens": counts, "cache_creation_input_tokens": counts,
    },
    optional={"cache_creation": LIVES},
)  # fmt: skip


def named(iteration):
    """Add a field `model` to an item of `usage.iterations` if the item has the type `advisor_message`. Other types have
    no such field.
    """
    return {**iteration, "model": "claude-opus-4-8"} if iteration["type"] == "advisor_message" else iteration


def claude_reports(*, direct):
    more = {
        "service_tier": st.sampled_from(["standard", "batch"]), "speed": st.sampled_from(["standard", "fast"]),
        "inference_geo": st.sampled_from(["us", "global", "not_available"]),
        "server_tool_use": st.fixed_dictionaries({"web_search_requests": st.integers(0, 3)}),
    }  # fmt: skip
    report = members(
        input_tokens=maybe, output_tokens=maybe, cache_read_input_tokens=maybe, cache_creation_input_tokens=maybe,
        cache_creation=st.none() | LIVES, iterations=st.none() | st.lists(ITERATION.map(named), max_size=3),
        **(more if direct else {}),
    )  # fmt: skip
    return st.lists(st.none() | report.map(consistent), min_size=2, max_size=4)


def consistent(report):
    """Return the report with a total of cache writes that is at least the sum of the cache writes by lifetime."""
    lives = sum((report.get("cache_creation") or {}).values())
    written = report.get("cache_creation_input_tokens")
    return report if written is None else {**report, "cache_creation_input_tokens": max(written, lives)}


CONVERSE_REPORTS = st.lists(
    members(
        inputTokens=counts, outputTokens=counts, cacheReadInputTokens=counts, cacheWriteInputTokens=counts,
        cacheReadInputTokenCount=counts, cacheWriteInputTokenCount=counts,
        cacheDetails=st.lists(
            st.fixed_dictionaries({"ttl": st.sampled_from(["5m", "1h"]), "inputTokens": counts}), max_size=3
        ),
    ),
    min_size=1, max_size=3,
)  # fmt: skip


@st.composite
def openai_reports(draw, *, responses):
    """Draw usage reports with consistent counts.

    Servers have several names for the count of cached tokens. A report has this count under one name, under two, or not
    at all.
    """
    reports = []
    for _ in range(draw(st.integers(1, 1 if responses else 4))):
        prompt, completion, thinking = draw(counts), draw(counts), draw(counts)
        cached = draw(st.integers(0, prompt))
        names = ("input_tokens", "output_tokens") if responses else ("prompt_tokens", "completion_tokens")
        usage = {names[0]: prompt, names[1]: completion}
        details = f"{names[0]}_details"
        told = draw(
            st.sampled_from(["", details, "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens", "two"])
        )
        if told == "two":
            usage |= {details: {"cached_tokens": 0}, "prompt_cache_hit_tokens": cached}
        elif told:
            usage[told] = {"cached_tokens": cached} if told == details else cached
        total = draw(st.sampled_from(["", "usual", "with thinking outside"]))
        if total:
            outside = thinking if total != "usual" else 0
            usage["total_tokens"] = prompt + completion + outside
            usage[f"{names[1]}_details"] = {"reasoning_tokens": thinking if outside else min(thinking, completion)}
        reports.append(draw(st.sampled_from([usage, usage, usage, None, {}])))
    return reports


REPORTS = {
    "anthropic_messages": claude_reports(direct=True),
    "bedrock_model_invoke": claude_reports(direct=False),
    "bedrock_converse": CONVERSE_REPORTS,
    "openai_chat": openai_reports(responses=False),
    "openai_responses": openai_reports(responses=True),
}
METRICS = members(
    inputTokenCount=counts,
    outputTokenCount=counts,
    cacheReadInputTokenCount=counts,
    # a sum that is above the writes by lifetime of every report
    cacheWriteInputTokenCount=st.just(0) | st.integers(200_000, 300_000),
)


def reply_of(provider, reports, metrics):
    """Return a stream with these usage reports, and a reply without streaming that has only the last report.

    Both are pairs of the bytes and the content type.
    """
    build = {"anthropic_messages": claude_reply, "bedrock_model_invoke": claude_reply, "bedrock_converse": converse_reply,
             "openai_chat": chat_reply, "openai_responses": responses_reply}[provider]  # fmt: skip
    events, whole = build(reports, metrics if provider == "bedrock_model_invoke" else {})
    data, content_type = framed(provider, events)
    data += b"data: [DONE]\n\n" if provider == "openai_chat" else b""
    return (data, content_type), (json.dumps(whole).encode(), "application/json")


def claude_reply(reports, metrics):
    first, *later = reports
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": first}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        *({"type": "message_delta", "delta": ended, "usage": report} for report in later),
        {"type": "message_stop", **({"amazon-bedrock-invocationMetrics": metrics} if metrics else {})},
    ]
    whole = {**message, "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": reports[-1]}
    return [("chunk", event) for event in events], whole


def converse_reply(reports, _):
    events = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        *(("metadata", {"usage": report, "metrics": {"latencyMs": 1}}) for report in reports),
    ]
    message = {"role": "assistant", "content": [{"text": "Hi"}]}
    return events, {"output": {"message": message}, "stopReason": "end_turn", "usage": reports[-1], "metrics": {}}


def chat_reply(reports, _):
    def chunk(delta, finish, usage):
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt", "choices": choices}
        return ("", {**base, "usage": usage})

    first, *later = reports
    events = [chunk({"role": "assistant", "content": "Hi"}, None, None), chunk({}, "stop", first)]
    events += [chunk(None, None, usage) for usage in later]
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    base = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt", "choices": [choice]}
    return events, {**base, "usage": reports[-1]}


def responses_reply(reports, _):
    part = {"type": "output_text", "text": "Hi", "annotations": []}
    item = {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [part]}
    whole = {
        "id": "r",
        "object": "response",
        "status": "completed",
        "model": "gpt",
        "output": [item],
        "usage": reports[-1],
    }
    place = {"output_index": 0, "content_index": 0, "item_id": "i"}
    events = [
        {"type": "response.created", "response": {**whole, "output": [], "status": "in_progress", "usage": None}},
        {"type": "response.output_text.delta", **place, "delta": "Hi", "logprobs": []},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    return [("", {**event, "sequence_number": at}) for at, event in enumerate(events)], whole


def drawn(line, data):
    """Draw a client, the lifetimes of the cache marks in its request, and the provider's reply."""
    client = data.draw(st.sampled_from(line.clients))
    ttls = data.draw(st.sampled_from([(), ("5m",), ("1h",), ("1h", "5m")]))
    reports, metrics = data.draw(REPORTS[line.provider]), data.draw(METRICS)
    return client, ttls, reply_of(line.provider, reports, metrics)


@providers
@some
@given(data=st.data())
def test_a_record_is_the_bill_that_the_raw_bytes_say(line, data):
    client, ttls, (streamed, whole) = drawn(line, data)
    stream = data.draw(st.booleans())
    raw, content_type = streamed if stream else whole
    cuts = data.draw(st.lists(st.integers(1, len(raw) - 1), max_size=4, unique=True)) if stream else ()
    record, response = line.call(client, ttls, raw, content_type, stream=stream, cuts=cuts)
    assert response.status == 200, response.body
    bill = BILLS[line.provider](raw, json.loads(line.upstream.requests[-1]), stream=stream)
    assert record["reported"] is (bill is not None)
    assume(bill is not None)
    assert tuple(record["tokens"][kind] for kind in KINDS) == bill.counts
    # a stream that delivers text and reports no output is an estimate, as its report cannot be the whole
    given, written, read, *_ = bill.counts
    is_silent = stream and not written and bool(given or read)
    cost, billed = round(record["cost_usd"] * 10**9), bill.nanodollars(line.prices)
    assert cost > billed if is_silent else cost == billed
    assert record["estimated"] is (not bill.exact or is_silent)
    assert len(record["parts"]) == (len(bill.parts) if len(bill.parts) > 1 else 0)
    if not is_native(client, line.provider):
        writes = bill.counts[3] + bill.counts[4]
        expected = (given, written, read, writes)
        if client == "gemini_generate_content":  # its usage has no count of writes, which are a part of the prompt
            expected = (given + writes, written, read, 0)
        assert told(client, response, stream=stream) == expected


def is_native(client, provider):
    claudes = {"anthropic_messages", "bedrock_model_invoke"}
    return client == provider or {client, provider} <= claudes


def told(client, response, *, stream):
    """Return the token counts that the client reads from its response: input, output, cache reads and cache writes."""
    say = CLIENTS[client]
    body = json.loads(response.body) if not stream else None
    reply = say.read_reply(body or fold(say.dialect, read_stream(response.body, response.headers["content-type"])))
    return reply.input, reply.output, reply.read, reply.written


@providers
@settings(some, max_examples=30)
@given(data=st.data())
def test_a_stream_that_is_cut_anywhere_is_marked_and_billed_by_what_came(line, data):
    client, ttls, ((raw, content_type), _) = drawn(line, data)
    # reports stand near the end
    missing = data.draw(st.integers(1, len(raw) - 1) | st.integers(1, len(raw) // 4) | st.integers(1, 3))
    end = len(raw) - missing
    record, _ = line.call(client, ttls, raw[:end], content_type, stream=True)
    bill = BILLS[line.provider](raw[:end], json.loads(line.upstream.requests[-1]), stream=True)
    assert record["reported"] is (bill is not None)
    if bill is None:
        return
    assert tuple(record["tokens"][kind] for kind in KINDS) == bill.counts
    assert record["estimated"] or (record["stop"] and bill.exact)
    assert record["cost_usd"] is None or round(record["cost_usd"] * 10**9) >= bill.nanodollars(line.prices)


ONLY_AT_THE_START = {
    "writes by lifetime": [
        {"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1}},
        {"cache_creation_input_tokens": 0},
    ],
    "writes by lifetime beside zeros": [
        {"input_tokens": None, "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1}},
        {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}},
    ],
    "writes by lifetime above a later sum": [
        {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1}},
        {"cache_creation": {"ephemeral_5m_input_tokens": 1}, "cache_creation_input_tokens": 1},
        None,
    ],
    "writes by lifetime that a later sum discards": [
        {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1}},
        {"input_tokens": 1, "cache_creation_input_tokens": 0},
    ],
    "output": [{"output_tokens": 1, "cache_creation_input_tokens": 1}, None, {"output_tokens": 0}],
    "nothing but output": [{"output_tokens": 1}, None, {"output_tokens": 0}],
}


@pytest.mark.parametrize("line", ["bedrock_model_invoke"], indirect=True)
@pytest.mark.parametrize("metrics", [{}, {"cacheWriteInputTokenCount": 200_000}], ids=["no metrics", "metrics"])
@pytest.mark.parametrize("reports", ONLY_AT_THE_START.values(), ids=ONLY_AT_THE_START)
def test_counts_that_the_gateway_completes_for_clients_are_no_reports(line, reports, metrics):
    """Check that counts that the gateway itself writes into `message_delta` are not taken for a usage report of the
    provider.

    The gateway copies counts there for the client if Bedrock reports them only in `message_start`.
    """
    (raw, content_type), _ = reply_of(line.provider, reports, metrics)
    record, _ = line.call("anthropic_messages", (), raw, content_type, stream=True)
    bill = BILLS[line.provider](raw, json.loads(line.upstream.requests[-1]), stream=True)
    assert record["reported"] is (bill is not None)
    assert tuple(record["tokens"][kind] for kind in KINDS) == (bill.counts if bill else (0,) * 5)
