"""Tests of calls that are billed in several parts, such as one part for each of several models.

A table has usage reports of providers, and the parts that are expected for them. The cost must be the same on every
conversion. Clients of the provider's own dialect get the report unchanged, and clients of other dialects get the sum of
the parts.
"""

import json
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor

from gateway.testkit import scenarios
from tests.defects.conversions import both_ways
from tests.helpers.fold import fold, read_stream
from tests.helpers.wires import framed, line, wires

KINDS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
PRICES = {
    # prices of a million tokens by provider and model, in the order of KINDS
    ("anthropic_messages", "haiku"): ("1", "5", "0.1", "1.25", "2"),
    ("anthropic_messages", "opus"): ("5", "25", "0.5", "6.25", "10"),
    ("bedrock_model_invoke", "haiku"): ("1.1", "5.5", "0.11", "1.375", "2.2"),
    ("bedrock_model_invoke", "opus"): ("5.5", "27.5", "0.55", "6.875", "11"),
    ("bedrock_converse", "haiku"): ("1.1", "5.5", "0.11", "1.375", "2.2"),
    ("openai_chat", "gpt"): ("2.5", "10", "1.25", "0", "0"),
    ("openai_responses", "gpt"): ("1.25", "10", "0.125", "0", "0"),
}
CLAUDES = ("anthropic_messages", "bedrock_model_invoke")


@dataclass(frozen=True)
class Case:
    """A test case: the usage reports in one reply, in order, and the parts in which the call must be billed.

    A part is a pair of a model and its counts: input, output, cache reads, and cache writes for 5 minutes and for an
    hour.
    """

    reports: tuple
    parts: tuple
    estimated: bool = False
    more: dict = field(default_factory=dict)
    """Additional fields of a stream's last event, such as Bedrock's metrics."""
    ttls: tuple = ()
    """Lifetimes of the cache marks in the client's request."""
    only_streamed: bool = False


def iteration(kind, given, written, read=0, **more):
    counts = {"input_tokens": given, "output_tokens": written, "cache_read_input_tokens": read}
    return {"type": kind, **counts, "cache_creation_input_tokens": 0, **more}


def top(given, written, *iterations, **more):
    return {"input_tokens": given, "output_tokens": written, **more} | (
        {"iterations": list(iterations)} if iterations else {}
    )


OPUS = "claude-opus-4-8"
START = top(1000, 1)
HOUR = {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 40}}
MAIN = ("haiku", (1000, 50, 0, 0, 0))
CLAUDE = {
    "one report": Case((START, top(1000, 50)), (MAIN,)),
    "output alone at the end": Case((START, {"output_tokens": 50}), (MAIN,), only_streamed=True),
    "a null among the counts": Case(
        (START, top(None, 50, cache_read_input_tokens=None)), (MAIN,), only_streamed=True
    ),
    "a null after the report": Case((START, top(1000, 50), None), (MAIN,), only_streamed=True),
    "zeros after the report": Case((START, top(1000, 50), top(0, 0)), (MAIN,), only_streamed=True),
    "zeros before the report": Case((top(0, 0), top(1000, 50)), (MAIN,)),
    "a null before the report": Case((None, top(1000, 50)), (MAIN,)),
    "two last reports": Case((START, top(1000, 70), top(1000, 50)), (MAIN,)),
    "a guess that was too high": Case(
        (top(9000, 9), top(64, 50, cache_read_input_tokens=8936)), (("haiku", (64, 50, 8936, 0, 0)),)
    ),
    "all of the prompt from the cache": Case(
        (top(9000, 9), top(0, 50, cache_read_input_tokens=9000)), (("haiku", (0, 50, 9000, 0, 0)),)
    ),
    "writes in the first report alone": Case(
        (top(1000, 1, cache_creation_input_tokens=40, **HOUR), {"output_tokens": 50}),
        (("haiku", (1000, 50, 0, 0, 40)),), only_streamed=True,
    ),
    "writes restated as a sum": Case(
        (top(1000, 1, cache_creation_input_tokens=40, **HOUR), top(1000, 50, cache_creation_input_tokens=40)),
        (("haiku", (1000, 50, 0, 0, 40)),), only_streamed=True,
    ),
    "writes taken back": Case(
        (top(1000, 1, cache_creation_input_tokens=40, **HOUR), top(960, 50, cache_creation_input_tokens=0)),
        (("haiku", (960, 50, 0, 0, 0)),), only_streamed=True,
    ),
    "a sum of writes, marks of an hour": Case(
        (START, top(1000, 50, cache_creation_input_tokens=40)), (("haiku", (1000, 50, 0, 0, 40)),), ttls=("1h", "1h")
    ),
    "a sum of writes, marks of five minutes": Case(
        (START, top(1000, 50, cache_creation_input_tokens=40)), (("haiku", (1000, 50, 0, 40, 0)),), ttls=("5m",)
    ),
    "a sum of writes, mixed marks": Case(
        (START, top(1000, 50, cache_creation_input_tokens=40)), (("haiku", (1000, 50, 0, 0, 40)),), True,
        ttls=("1h", "5m"),
    ),
    "a compaction": Case(
        (START, top(1000, 50, iteration("compaction", 900, 30), iteration("message", 1000, 50))),
        (MAIN, ("haiku", (900, 30, 0, 0, 0))),
    ),
    "a compaction that used the cache": Case(
        (START, top(1000, 50, iteration("compaction", 9, 30, 800, **{**HOUR, "cache_creation_input_tokens": 40}))),
        (MAIN, ("haiku", (9, 30, 800, 0, 40))),
    ),
    "two compactions": Case(
        (START, top(1000, 50, iteration("compaction", 900, 30), iteration("compaction", 800, 20))),
        (MAIN, ("haiku", (900, 30, 0, 0, 0)), ("haiku", (800, 20, 0, 0, 0))),
    ),
    "an advisor": Case(
        (START, top(1000, 50, iteration("message", 400, 20), iteration("advisor_message", 80, 160, model=OPUS),
                    iteration("message", 600, 30))),
        (MAIN, ("opus", (80, 160, 0, 0, 0))),
    ),
    "an advisor with a dated name": Case(
        (START, top(1000, 50, iteration("advisor_message", 80, 160, 7, model=f"{OPUS}-20260101"))),
        (MAIN, ("opus", (80, 160, 7, 0, 0))),
    ),
    "an advisor and a compaction": Case(
        (START, top(1000, 50, iteration("compaction", 900, 30), iteration("advisor_message", 80, 160, model=OPUS))),
        (MAIN, ("haiku", (900, 30, 0, 0, 0)), ("opus", (80, 160, 0, 0, 0))),
    ),
    "iterations in both reports": Case(
        (top(1000, 1, iteration("compaction", 900, 1)), top(1000, 50, iteration("compaction", 900, 30))),
        (MAIN, ("haiku", (900, 30, 0, 0, 0))),
    ),
    "iterations in the first report alone": Case(
        (top(1000, 1, iteration("compaction", 900, 30)), {"output_tokens": 50, "iterations": None}),
        (MAIN, ("haiku", (900, 30, 0, 0, 0))), only_streamed=True,
    ),
    "a fallback": Case(
        (START, top(1000, 50, iteration("message", 1000, 0, model="claude-haiku-4-5"),
                    iteration("fallback_message", 1000, 50, model=OPUS))),
        (("opus", (1000, 50, 0, 0, 0)),),
    ),
    "a fallback that used tools": Case(
        (START, top(1000, 50, iteration("message", 1000, 0, model="claude-haiku-4-5"),
                    iteration("message", 400, 20, model=OPUS), iteration("fallback_message", 600, 30, model=OPUS))),
        (("opus", (1000, 50, 0, 0, 0)),),
    ),
    "a decline after some output": Case(
        (START, top(1000, 50, iteration("message", 1000, 9, model="claude-haiku-4-5"),
                    iteration("fallback_message", 1000, 50, model=OPUS))),
        (("opus", (1000, 50, 0, 0, 0)), ("haiku", (1000, 9, 0, 0, 0))), True,
    ),
    "an iteration of an unknown kind": Case(
        (START, top(1000, 50, iteration("dream", 900, 30))), (MAIN, ("haiku", (900, 30, 0, 0, 0))), True
    ),
    "a redeemed credit": Case(
        (START, top(1000, 50, fallback_credit={"status": {"type": "redeemed"}})), (MAIN,), True
    ),
    "a credit that was not applied": Case(
        (START, top(1000, 50, fallback_credit={"status": {"type": "not_applied"}})), (MAIN,)
    ),
    "iterations that are no list": Case((START, top(1000, 50) | {"iterations": {"type": "compaction"}}), (MAIN,)),
}  # fmt: skip
METRICS = "amazon-bedrock-invocationMetrics"


def metrics(given, written, **more):
    return {METRICS: {"inputTokenCount": given, "outputTokenCount": written, **more}}


INVOKE = {
    "metrics that repeat the counts": Case((START, top(1000, 50)), (MAIN,), more=metrics(1000, 50)),
    "cache counts in the metrics alone": Case(
        (START, {"output_tokens": 50}), (("haiku", (1000, 50, 700, 40, 0)),), only_streamed=True,
        more=metrics(1000, 50, cacheReadInputTokenCount=700, cacheWriteInputTokenCount=40),
    ),
    "cache counts missing in the metrics": Case(
        (top(1000, 1, cache_read_input_tokens=700), {"output_tokens": 50}), (("haiku", (1000, 50, 700, 0, 0)),),
        only_streamed=True, more=metrics(1000, 50, cacheReadInputTokenCount=0),
    ),
    "counts in the metrics alone": Case((None, None), (MAIN,), only_streamed=True, more=metrics(1000, 50)),
    "an hour's writes in the metrics": Case(
        (START, {"output_tokens": 50}), (("haiku", (1000, 50, 0, 0, 40)),), only_streamed=True, ttls=("1h",),
        more=metrics(1000, 50, cacheWriteInputTokenCount=40),
    ),
    "mixed writes in the metrics": Case(
        (START, {"output_tokens": 50}), (("haiku", (1000, 50, 0, 0, 40)),), True, only_streamed=True,
        ttls=("1h", "5m"), more=metrics(1000, 50, cacheWriteInputTokenCount=40),
    ),
    "metrics beside a compaction": Case(
        (START, top(1000, 50, iteration("compaction", 900, 30))), (MAIN, ("haiku", (900, 30, 0, 0, 0))),
        more=metrics(1000, 50),
    ),
}  # fmt: skip


def claude_events(case):
    first, *later = case.reports
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude", "stop_reason": None}
    block = {"type": "text", "text": ""}
    events = [
        {"type": "message_start", "message": {**start, "stop_sequence": None, "usage": first}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
    ]
    for report in later:
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": report})
    return [("chunk", event) for event in [*events, {"type": "message_stop", **case.more}]]


def claude_whole(case):
    return {
        "id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}],
        "model": "claude", "stop_reason": "end_turn", "stop_sequence": None, "usage": case.reports[-1],
    }  # fmt: skip


def converse_events(case):
    events = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
    ]
    return [*events, *(("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}) for usage in case.reports)]


def converse_whole(case):
    message = {"role": "assistant", "content": [{"text": "Hi"}]}
    return {"output": {"message": message}, "stopReason": "end_turn", "usage": case.reports[-1], "metrics": {}}


def chat_events(case):
    def chunk(delta, finish, **more):
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        return (
            "",
            {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt", "choices": choices, **more},
        )

    first, *later = case.reports
    events = [chunk({"role": "assistant", "content": "Hi"}, None), chunk({}, "stop", usage=first)]
    return [*events, *(chunk(None, None, usage=usage) for usage in later)]


def chat_whole(case):
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt",
        "choices": [choice],
        "usage": case.reports[-1],
    }


def converse(given, written, **more):
    return {"inputTokens": given, "outputTokens": written, "totalTokens": given + written, **more}


CONVERSE = {
    "one report": Case((converse(1000, 50),), (MAIN,)),
    "two reports": Case((converse(1200, 70), converse(1000, 50)), (MAIN,), only_streamed=True),
    "zeros after the report": Case((converse(1000, 50), converse(0, 0)), (MAIN,), only_streamed=True),
    "no usage after the report": Case((converse(1000, 50), {}), (MAIN,), only_streamed=True),
    "names that end with Count": Case(
        (converse(1000, 50, cacheReadInputTokenCount=700, cacheWriteInputTokenCount=40),),
        (("haiku", (1000, 50, 700, 40, 0)),),
    ),
    "details of writes": Case(
        (converse(1000, 50, cacheDetails=[{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 10}]),),
        (("haiku", (1000, 50, 0, 10, 30)),),
    ),
    "a sum of writes, marks of an hour": Case(
        (converse(1000, 50, cacheWriteInputTokens=40),), (("haiku", (1000, 50, 0, 0, 40)),), ttls=("1h",)
    ),
    "a sum of writes, mixed marks": Case(
        (converse(1000, 50, cacheWriteInputTokens=40),), (("haiku", (1000, 50, 0, 0, 40)),), True, ttls=("1h", "5m")
    ),
}  # fmt: skip


def chat(given, written, **more):
    return {"prompt_tokens": given, "completion_tokens": written, "total_tokens": given + written, **more}


DETAILS = {"prompt_tokens_details": {"cached_tokens": 700}}
GPT = ("gpt", (1000, 50, 0, 0, 0))
READ = ("gpt", (300, 50, 700, 0, 0))
CHAT = {
    "one report": Case((chat(1000, 50),), (GPT,)),
    "details in the last report": Case((chat(1000, 50), chat(1000, 50, **DETAILS)), (READ,)),
    "details in the first report": Case((chat(1000, 50, **DETAILS), chat(1000, 50)), (READ,), only_streamed=True),
    "a report in every chunk": Case((chat(1000, 1), chat(1000, 20), chat(1000, 50)), (GPT,)),
    "a null before the report": Case((None, chat(1000, 50)), (GPT,)),
    "a null after the report": Case((chat(1000, 50), None), (GPT,), only_streamed=True),
    "zeros after the report": Case((chat(1000, 50), chat(0, 0)), (GPT,), only_streamed=True),
    "zeros before the report": Case((chat(0, 0), chat(1000, 50, **DETAILS)), (READ,)),
    "deepseek": Case((chat(1000, 50, prompt_cache_hit_tokens=700, prompt_cache_miss_tokens=300),), (READ,)),
    "deepseek with both names": Case((chat(1000, 50, prompt_cache_hit_tokens=700, **DETAILS),), (READ,)),
    "kimi": Case((chat(1000, 50, cached_tokens=700),), (READ,)),
    "mistral": Case((chat(1000, 50, num_cached_tokens=700, prompt_token_details={"cached_tokens": 700}),), (READ,)),
    "thinking outside the completion": Case(
        ({**chat(1000, 20), "total_tokens": 1050, "completion_tokens_details": {"reasoning_tokens": 30}},), (GPT,)
    ),
    "thinking in the total alone": Case(({**chat(1000, 20), "total_tokens": 1050},), (GPT,), True),
}  # fmt: skip


def nanodollars(provider, parts):
    total = sum(
        Fraction(price) * count
        for model, counts in parts
        for price, count in zip(PRICES[provider, model], counts, strict=True)
    )
    return floor(total * 1000 + Fraction(1, 2))


def body_of(say, ttls):
    parts = [say.text(f"Hi {ttl}", ttl=ttl) for ttl in ttls]
    return say.body(say.user(*parts, say.text("Hi")))


def is_native(wire):
    """Return whether the client gets the provider's usage report unchanged, because both use the same body format."""
    return wire.client == wire.provider or {wire.client, wire.provider} <= set(CLAUDES)


def marks_of(value):
    """Yield the lifetime of each cache mark in a body."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in {"cache_control", "cachePoint"}:
                yield inner.get("ttl", "5m")
            else:
                yield from marks_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from marks_of(inner)


def sent_lifetime(case, sent):
    """Return the fields of the case that have other expected values because some cache marks did not reach the
    provider. Return {} if all marks did.

    A cache mark is lost if the client's API has none, or if the model does not accept its lifetime.
    """
    marks = set(marks_of(sent))
    if not case.ttls or marks == set(case.ttls):
        return {}
    assert marks in (set(), {"5m"})
    parts = tuple((model, (*counts[:3], counts[3] + counts[4], 0)) for model, counts in case.parts)
    return {"parts": parts, "estimated": False}


def shown(wire, response, *, stream):
    """Return the token counts that a client gets in its reply."""
    if stream:
        body = fold(wire.say.dialect, read_stream(response.body, response.headers["content-type"]))
    else:
        body = json.loads(response.body)
    reply = wire.say.read_reply(body)
    return reply.input, reply.output, reply.read, reply.written


def display(counts, dialect):
    """Return the four counts that a client of the dialect gets: input, output, cache reads and cache writes.

    Gemini's API has no cache writes, so its count of input tokens includes them.
    """
    given, output, read, *written = counts
    if dialect == "gemini_generate_content":
        return given + sum(written), output, read, 0
    return given, output, read, sum(written)


async def check(wire, tmp_path, stream, cases, events_of, whole_of):
    """Check every case on one gateway: the record of the call, and the token counts in the client's reply."""
    options = {"cost_basis": "bedrock-us"} if wire.provider.startswith("bedrock") else {}
    faults = {}
    async with line(wire, tmp_path, **options) as opened:
        tried = {name: case for name, case in cases.items() if stream or not case.only_streamed}
        for name, case in tried.items():
            if stream:
                data, content_type = framed(wire.provider, events_of(case))
                data += b"data: [DONE]\n\n" if wire.provider == "openai_chat" else b""
            else:
                data, content_type = json.dumps(whole_of(case)).encode(), "application/json"
            opened.simulated.script(scenarios.raw(data, content_type))
            reply = await opened.post(body_of(wire.say, case.ttls), stream=stream)
            assert reply.status == 200, reply.body
            record = (await opened.gw.calls(len(faults) + 1))[len(faults)]
            expected = replace(case, **sent_lifetime(case, opened.sent))
            seen = None if is_native(wire) else shown(wire, reply, stream=stream)
            faults[name] = fault_of(wire, expected, record, seen)
    assert {name: fault for name, fault in faults.items() if fault} == {}


def fault_of(wire, case, record, seen):
    """Return what is wrong with the call's record or with the counts `seen` that the client got. Return None if nothing
    is wrong.
    """
    counts = tuple(map(sum, zip(*(counts for _, counts in case.parts), strict=True)))
    if tuple(record["tokens"][kind] for kind in KINDS) != counts:
        return f"tokens {record['tokens']}"
    if round(record["cost_usd"] * 10**9) != nanodollars(wire.provider, case.parts):
        return f"cost {record['cost_usd']}, not {nanodollars(wire.provider, case.parts)}"
    if record["estimated"] is not case.estimated:
        return f"estimated {record['estimated']}"
    if len(record["parts"]) != (len(case.parts) if len(case.parts) > 1 else 0):
        return f"parts {record['parts']}"
    if seen is not None and seen != display(counts, wire.say.dialect):
        return f"the client got {seen}"
    return None


@both_ways
@wires(providers=CLAUDES)
async def test_claudes_reports_come_to_their_parts(wire, stream, tmp_path):
    cases = {**CLAUDE, **(INVOKE if wire.provider == "bedrock_model_invoke" else {})}
    await check(wire, tmp_path, stream, cases, claude_events, claude_whole)


@both_ways
@wires(providers=("bedrock_converse",))
async def test_converses_reports_come_to_their_part(wire, stream, tmp_path):
    await check(wire, tmp_path, stream, CONVERSE, converse_events, converse_whole)


@both_ways
@wires(providers=("openai_chat",))
async def test_chats_reports_come_to_their_part(wire, stream, tmp_path):
    await check(wire, tmp_path, stream, CHAT, chat_events, chat_whole)
