"""Tests that the recorded cost of a call equals the cost of the usage that the provider reports, on every conversion.

The expected costs are computed in this file, without code of the gateway. They come from the token counts in the
provider's reply, and from prices that are written out here for each kind of token, in USD for 1M tokens.
"""

import asyncio
import json
from dataclasses import replace
from fractions import Fraction
from math import floor
from urllib.parse import unquote

import pytest
import pytest_asyncio

from gateway.money.quotas.estimate import TOKENS_PER_SECOND
from gateway.testkit import scenarios
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.openai import OpenAISim
from gateway.testkit.render import (
    anthropic as render_anthropic,
)
from gateway.testkit.render import (
    chat as render_chat,
)
from gateway.testkit.render import (
    converse as render_converse,
)
from gateway.testkit.scenarios import NAMED, Canned, Tokens, Tool
from tests.end_to_end.test_recordings import streamed
from tests.helpers.gateway import HAIKU, KEY, NOVA, bedrock, gate
from tests.helpers.recordings import exchanges, served
from tests.helpers.samples_of_tables import ALL_PAIRS

HAIKU_US = ("1.1", "5.5", "0.11", "1.375", "2.2")
NOVA_US = ("0.06", "0.24", "0.015", None, None)
HAIKU_DIRECT = ("1", "5", "0.1", "1.25", "2")
GPT_4O = ("2.5", "10", "1.25", None, None)

ASK = [{"role": "user", "content": "hi"}]
CHAT = {"messages": ASK}
MESSAGES = {"max_tokens": 50, "messages": ASK}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", **MESSAGES}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
DIRECT = "claude-haiku-4-5"

# name: simulator, the provider's flags, model, its prices, path, body, path of a stream ("" where a member asks for it),
# and the dialect that the upstream speaks
CONVERSIONS = {
    "native invoke": (BedrockSim, HAIKU, HAIKU_US, "/bedrock/model/{}/invoke", CLAUDE, "-with-response-stream", "claude"),
    "native converse": (BedrockSim, HAIKU, HAIKU_US, "/bedrock/model/{}/converse", CONVERSE, "-stream", "converse"),
    "messages to invoke": (BedrockSim, HAIKU, HAIKU_US, "/v1/messages", MESSAGES, "", "claude"),
    "chat to invoke": (BedrockSim, HAIKU, HAIKU_US, "/v1/chat/completions", CHAT, "", "claude"),
    "chat to converse": (BedrockSim, NOVA, NOVA_US, "/v1/chat/completions", CHAT, "", "converse"),
    "native messages": (AnthropicSim, DIRECT, HAIKU_DIRECT, "/v1/messages", MESSAGES, "", "claude"),
    "invoke to messages": (
        AnthropicSim, DIRECT, HAIKU_DIRECT, "/bedrock/model/{}/invoke", CLAUDE, "-with-response-stream", "claude",
    ),
    "chat to messages": (AnthropicSim, DIRECT, HAIKU_DIRECT, "/v1/chat/completions", CHAT, "", "claude"),
    "native chat": (OpenAISim, "gpt-4o", GPT_4O, "/v1/chat/completions", CHAT, "", "chat"),
}  # fmt: skip
FLAGS = {
    BedrockSim: ("bedrock_model_invoke", "bedrock_converse"),
    AnthropicSim: ("anthropic_messages",),
    OpenAISim: ("openai_chat",),
}
BASES = {BedrockSim: "bedrock-us", AnthropicSim: "anthropic", OpenAISim: "openai"}
conversions = pytest.mark.parametrize("conversion", CONVERSIONS)
BROKEN = ("error_in_stream", "cut", "no_end")
SOUND = [name for name in NAMED if name not in {*BROKEN, "stall"}]


def nanodollars(prices, counts):
    """Return the cost in nanodollars, computed exactly and rounded half up once, or None if a price is missing."""
    used = [(price, count) for price, count in zip(prices, counts, strict=True) if count]
    if any(price is None for price, _ in used):
        return None
    return floor(sum(Fraction(price) * count for price, count in used) * 1000 + Fraction(1, 2))


def cost(record):
    return None if record["cost_usd"] is None else round(record["cost_usd"] * 10**9)


def canned(conversion, scenario):
    """Return the scenario with a reply that reports token counts. Its cache writes are 0 if the provider's dialect
    cannot report them.
    """
    reply = scenario.reply or Canned(text=("Hello",))
    tokens = reply.tokens
    known = Tokens(
        input=31 if tokens.input is None else tokens.input,
        output=17 if tokens.output is None else tokens.output,
        cache_read=tokens.cache_read,
        cache_write_5m=0 if CONVERSIONS[conversion][2][3] is None else tokens.cache_write_5m,
        cache_write_1h=0 if CONVERSIONS[conversion][2][4] is None else tokens.cache_write_1h,
    )
    return replace(scenario, reply=replace(reply, tokens=known))


def counts_of(reply):
    tokens = reply.tokens
    return tokens.input, tokens.output, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h


class Conversion:
    """A gateway in front of a simulated provider. All calls use the same conversion."""

    def __init__(self, tmp_path, conversion):
        self.sim_type, self.model, self.prices, self.path, self.body, self.streaming, self.dialect = CONVERSIONS[
            conversion
        ]
        self.conversion, self.tmp_path = conversion, tmp_path

    async def __aenter__(self):
        self.sim = await self.sim_type(keys={KEY}).__aenter__()
        sim_type = self.sim_type
        more = {"models": [self.model], "flags": FLAGS[sim_type], "cost_basis": BASES[sim_type]}
        if sim_type is AnthropicSim:
            more["authorization"] = "x-api-key"
        self.gate = gate(self.tmp_path, {"p": bedrock(self.sim.url, **more)})
        self.gw = await self.gate.__aenter__()
        return self

    async def __aexit__(self, *error):
        await self.gate.__aexit__(*error)
        await self.sim.__aexit__(*error)

    def ask(self, *, stream):
        path = self.path.format(self.model)
        if "{" in self.path:
            return path + (self.streaming if stream else ""), self.body
        return path, {**self.body, "model": self.model, **({"stream": True} if stream else {})}

    async def record(self, scenario, *, stream):
        self.sim.script(scenario)
        await self.gw.post(*self.ask(stream=stream))
        (record,) = await self.gw.calls()
        return record

    def estimate(self, delivered, *, stream=True):
        """Return the estimated cost of a call in nanodollars.

        An input token is assumed for every three bytes of the request to the provider, and an output token for every
        three bytes of the delivered text. The output is at least one token.
        """
        # on the native way of chat the client's own: the gateway only adds that it wants to know the usage
        body = json.dumps(self.ask(stream=stream)[1]) if self.dialect == "chat" else self.sim.requests[-1].body
        return nanodollars(self.prices[:2], (len(body) // 3, max(1, len(delivered) // 3)))


SCENARIOS = [
    pytest.param(conversion, name, stream, id=f"{'streamed' if stream else 'whole'}-{name}-{conversion}")
    for row, conversion in enumerate(CONVERSIONS)
    for column, name in enumerate([*SOUND, "tools"])
    for stream in (False, True)
    if ALL_PAIRS or (row + column) % 2 == stream
]
"""Each scenario on each conversion. Half of these pairs are streamed, and the others are not. With
IRISGATE_ALL_PAIRS=1, each pair is tried both ways.
"""


@pytest.mark.parametrize(("conversion", "name", "stream"), SCENARIOS)
async def test_every_scenario_costs_what_the_provider_reported(tmp_path, conversion, name, stream):
    scenario = scenarios.tools(Tool("look", {"at": "it"})) if name == "tools" else NAMED[name]
    canned_reply = scenario if scenario.error else canned(conversion, scenario)
    async with Conversion(tmp_path, conversion) as it:
        record = await it.record(canned_reply, stream=stream)
    assert cost(record) == (
        0 if scenario.error else nanodollars(CONVERSIONS[conversion][2], counts_of(canned_reply.reply))
    )
    assert record["estimated"] is False


def upstream_events(conversion, reply):
    """Return the events that the provider sends, as pairs (text, counts).

    The counts are those of the event's usage report, or None if it has no report. In Messages, an event without a
    report has the counts of the last report.
    """
    sim_type, *_, dialect = CONVERSIONS[conversion]
    if dialect == "converse":
        events = render_converse.events(reply, 31)
        return [
            (data.get("delta", {}).get("text", ""), counts_of(reply) if kind == "metadata" else None)
            for kind, data in events
        ]
    if dialect == "chat":
        chunks = render_chat.chunks(reply, "m", 31, include_usage=True)
        return [
            ("".join(choice["delta"].get("content") or "" for choice in chunk["choices"]),
             counts_of(reply) if chunk.get("usage") else None)
            for chunk in chunks
        ]  # fmt: skip
    started = (reply.tokens.input, 1, *counts_of(reply)[2:])
    # the output of `message_delta` is the last to be told
    events = [
        (event.get("delta", {}).get("text", ""), counts_of(reply) if event["type"] == "message_delta" else started)
        for event in render_anthropic.events(reply, "m", 31)
    ]
    ping = [("", started)] if sim_type is AnthropicSim else []
    return [*events[:1], *ping, *events[1:]]


CUT = replace(NAMED["text"], reply=replace(NAMED["text"].reply, tokens=Tokens(input=31, output=17, cache_read=1000)))
STEPS = [
    pytest.param(conversion, after, id=f"{conversion}-{after}")
    for conversion in CONVERSIONS
    for after in range(len(upstream_events(conversion, CUT.reply)))
]


def known(it, after):
    """Return the minimum cost in nanodollars of a call whose stream ended after `after` events. `it` has the conversion
    of the call.
    """
    events = upstream_events(it.conversion, CUT.reply)[:after]
    reported = [counts for _, counts in events if counts is not None]
    delivered = "".join(text for text, _ in events)
    if not reported:
        return it.estimate(delivered)
    total, output, *cached = reported[-1]
    # a first report was made before most of it was written, if it has less than a token for eight bytes
    output = len(delivered) // 3 if len(delivered) > 8 * output else output
    return nanodollars(it.prices, (total, output, *cached))


def is_about(it, record, least):
    """Return whether the cost in a record is between `least` and the maximum cost. Both are in nanodollars.

    The maximum adds the output that the model could have written during the call. An estimated cost may also be wrong
    by 20 input tokens, because the estimate is made before the provider's envelope is added to the request.
    """
    slack = 0 if record["reported"] else nanodollars(it.prices[:2], (20, 0))
    most = least + nanodollars(it.prices[:2], (0, int(record["duration_ms"] / 1000 * TOKENS_PER_SECOND)))
    return least - slack <= cost(record) <= most + slack


@pytest.mark.parametrize(("conversion", "after"), STEPS)
async def test_a_stream_cut_after_any_event_has_one_record(tmp_path, conversion, after):
    """Check that a stream that ends early, after any event, has one record, with the token counts that were reported
    until then.
    """
    async with Conversion(tmp_path, conversion) as it:
        record = await it.record(replace(CUT, end_after=after), stream=True)
        assert is_about(it, record, known(it, after))
        assert record["estimated"] is not (record["reported"] and bool(record["stop"]))
        assert len(await it.gw.calls()) == 1


@pytest.mark.parametrize(("conversion", "after"), [step for step in STEPS if step.values[1]])
async def test_a_client_gone_after_any_event_has_one_record(tmp_path, conversion, after):
    """Check that a call whose client disconnects after any event has one record. The record's cost comes from the
    counts that the provider had reported until then.
    """
    async with Conversion(tmp_path, conversion) as it:
        it.sim.script(replace(CUT, stall_after=after))
        path, body = it.ask(stream=True)
        with pytest.raises(TimeoutError):
            async with it.gw.session.post(it.gw.url + path, json=body) as reply, asyncio.timeout(0.1):
                await reply.read()
        (record,) = await it.gw.calls()
        assert is_about(it, record, known(it, after))
        assert record["outcome"] in {"cancelled", "ok"}
        assert record["estimated"] is not (record["reported"] and bool(record["stop"]))


@conversions
@pytest.mark.parametrize("name", BROKEN)
async def test_a_stream_that_breaks_costs_what_was_known(tmp_path, conversion, name):
    faults = NAMED[name]
    scenario = replace(
        CUT, error=faults.error, fail_after=faults.fail_after, cut_at=faults.cut_at, end_after=faults.end_after
    )
    async with Conversion(tmp_path, conversion) as it:
        record = await it.record(scenario, stream=True)
        possible = {known(it, after) for after in range(len(upstream_events(it.conversion, CUT.reply)))}
        after = faults.fail_after or faults.end_after
        assert any(is_about(it, record, least) for least in ({known(it, after)} if after else possible))


@conversions
@pytest.mark.parametrize("name", BROKEN)
async def test_a_whole_reply_that_breaks_costs_all_of_it_or_an_estimate(tmp_path, conversion, name):
    scenario = canned(conversion, NAMED[name])
    async with Conversion(tmp_path, conversion) as it:
        record = await it.record(scenario, stream=False)
        if record["estimated"]:
            assert is_about(it, record, it.estimate("", stream=False))
        else:
            assert cost(record) == nanodollars(CONVERSIONS[conversion][2], counts_of(scenario.reply))


RECORDED = {
    # litellm 1.109.1 and genai-prices 0.2.3: input, output, cache read, cache write for 5 minutes
    "anthropic.claude-v2": ("8", "24", None, None),
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mi1dadi0g15f": None,
    "moonshot.kimi-k2-thinking": ("0.6", "2.5", None, None),
    "openai.gpt-oss-120b-1:0": ("0.15", "0.6", None, None),
    "qwen.qwen3-32b-v1:0": ("0.15", "0.6", None, None),
    "us.amazon.nova-2-lite-v1:0": ("0.33", "2.75", "0.0825", None),
    "us.amazon.nova-lite-v1:0": ("0.06", "0.24", "0.015", None),
    "us.amazon.nova-micro-v1:0": ("0.035", "0.14", "0.00875", None),
    "us.amazon.nova-pro-v1:0": ("0.8", "3.2", "0.2", None),
    "us.anthropic.claude-3-7-sonnet-20250219-v1:0": ("3", "15", "0.3", "3.75"),
    "us.anthropic.claude-sonnet-4-20250514-v1:0": ("3", "15", "0.3", "3.75"),
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0": ("3.3", "16.5", "0.33", "4.125"),
    "us.anthropic.claude-sonnet-4-6": ("3.3", "16.5", "0.33", "4.125"),
    "us.deepseek.r1-v1:0": ("1.35", "5.4", None, None),
    "us.meta.llama4-maverick-17b-instruct-v1:0": ("0.24", "0.97", None, None),
    "us.mistral.pixtral-large-2502-v1:0": ("2", "6", None, None),
    "us.writer.palmyra-x4-v1:0": ("2.5", "10", None, None),
    "zai.glm-4.7-flash": ("0.07", "0.4", None, None),
}


EXCHANGES = exchanges("converse", "converse-stream", status=200)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recordings(tmp_path_factory):
    """Yield a simulated Bedrock, which sends recorded replies, and a gateway with the models of all recordings."""
    models = [model_of(parameter.values[0]) for parameter in EXCHANGES]
    async with BedrockSim(keys={KEY}, models=set(models), any_signature=True) as sim:
        provider = bedrock(sim.url, models=sorted(set(models)), flags=["bedrock_converse"])
        async with gate(tmp_path_factory.mktemp("recordings"), {"b": provider}) as gw:
            yield sim, gw


def model_of(exchange):
    return unquote(exchange["path"].split("/")[2])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("native", [True, False], ids=["native", "from chat"])
async def test_every_recorded_reply_costs_what_it_reported(recordings, exchange, native):
    sim, gw = recordings
    model = model_of(exchange)
    sim.script(scenarios.raw(*served(exchange)))
    before = gw.lines.count("call.finished")
    chat = {"model": model, "stream": "response_base64" in exchange, **CHAT}
    path, body = f"/bedrock{exchange['path']}", exchange["request"]
    await (gw.post(path, body) if native else gw.post("/v1/chat/completions", chat))
    (record,) = (await gw.calls(before + 1))[before:]
    if "response" in exchange:
        reply = exchange["response"]
    else:
        reply = next(data for kind, data in streamed(exchange) if kind == "metadata")
    usage = reply["usage"]
    assert usage.get("cacheDetails", [{"ttl": "5m"}])[0]["ttl"] == "5m"
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    standard = (
        reply.get("serviceTier", {}).get("type", "default") == "default"
        and reply.get("performanceConfig", {}).get("latency") != "optimized"
    )
    prices = RECORDED[model] if standard else None
    expected = nanodollars(prices, [usage.get(name, 0) for name in names]) if prices else None
    assert (cost(record), record["estimated"]) == (expected, False)
