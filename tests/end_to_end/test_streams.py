"""Tests of streams through the whole gateway: events are not delayed, no event is lost, and a failed stream ends with
an error.
"""

import asyncio
import json
from dataclasses import replace

import aiohttp
import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.flag import ClientRequest, Head, Members, Target
from gateway.contract.framing import eventstream, sse
from gateway.contract.registry import discover
from gateway.testkit import scenarios
from tests.helpers.gateway import HAIKU, KEY, NOVA, bedrock, gate
from tests.helpers.hostile_http import post
from tests.helpers.raw_http import Raw
from tests.helpers.waiting import eventually

CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
MESSAGES = {"max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], "stream": True}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
EVENTS = "application/vnd.amazon.eventstream"

CONVERSIONS = {
    "native converse": (f"/bedrock/model/{NOVA}/converse-stream", CONVERSE),
    "native invoke": (f"/bedrock/model/{HAIKU}/invoke-with-response-stream", CLAUDE),
    "messages to invoke": ("/v1/messages", {"model": HAIKU, **MESSAGES}),
    "chat to invoke": ("/v1/chat/completions", {"model": HAIKU, **CHAT}),
    "chat to converse": ("/v1/chat/completions", {"model": NOVA, **CHAT}),
}
conversions = pytest.mark.parametrize(("path", "body"), CONVERSIONS.values(), ids=CONVERSIONS)


def says_normal_end(path, data):
    """Return whether the client of `path` would take the stream for a complete one."""
    if path.endswith("-stream"):
        frames = list(eventstream.Decoder().feed(data))
        kinds = {frame.headers.get(":event-type") for frame in frames}
        return "messageStop" in kinds or any(b"bWVzc2FnZV9zdG9w" in frame.payload for frame in frames)
    return b"[DONE]" in data or b"event: message_stop" in data


def says_error(path, data):
    """Return whether the stream ends with an error that the SDK of the client of `path` recognises."""
    if path.endswith("-stream"):
        decoder = eventstream.Decoder()
        *_, last = decoder.feed(data)
        return decoder.pending == 0 and last.headers[":message-type"] == "exception"
    *_, last = sse.Decoder().feed(data)
    return "error" in json.loads(last.payload)


@conversions
async def test_the_first_event_leaves_before_the_second_has_come(tmp_path, bedrock_sim, path, body):
    held = scenarios.Gate()
    bedrock_sim.script(replace(scenarios.NAMED["text"], gate=held))
    async with (
        gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw,
        gw.session.post(gw.url + path, json=body) as reply,
    ):
        first = await asyncio.wait_for(reply.content.readany(), 30)
        assert first
        assert not says_normal_end(path, first)
        held.let_pass(100)
        rest = await reply.content.read()
        assert says_normal_end(path, first + rest)


@conversions
@pytest.mark.parametrize("when", ["in the middle", "while the provider is silent", "before the first event"])
async def test_a_client_that_goes_away_closes_the_provider_within_a_second(tmp_path, bedrock_sim, path, body, when):
    scenario = replace(scenarios.NAMED["long"], stall_after=3) if when != "in the middle" else scenarios.NAMED["long"]
    if when == "before the first event":
        scenario = replace(scenario, stall_after=0)
    if when == "in the middle":
        scenario = replace(scenario, gate=(held := scenarios.Gate()))
        held.let_pass(3)
    bedrock_sim.script(scenario)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        if when == "before the first event":
            calling = asyncio.create_task(gw.post(path, body))
            await eventually(lambda: bedrock_sim.requests)
            calling.cancel()
        else:
            reply = await gw.session.post(gw.url + path, json=body)
            await asyncio.wait_for(reply.content.readany(), 30)
            reply.close()
        await asyncio.wait_for(bedrock_sim.requests[0].closed.wait(), 5)
        (record,) = await gw.calls()
        await eventually(lambda: not gw.running.gateway.open_calls)
        await gw.log_is_written()
        assert gw.lines.count("call.finished") == 1
        assert record["outcome"] == "cancelled"
        known = when != "before the first event" and "invoke" in record["upstream_api"]
        assert record["tokens"]["input"] > 0 if known else record["tokens"]["input"] == 0


@conversions
@pytest.mark.parametrize("fault", ["exception", "cut", "no end", "half a frame"])
async def test_a_broken_stream_ends_with_an_error_and_never_normally(tmp_path, bedrock_sim, path, body, fault):
    whole = await whole_stream(bedrock_sim, path, body)
    faults = {
        "exception": scenarios.error_in_stream("throttlingException", message="Too many tokens"),
        "cut": scenarios.cut(len(whole) * 6 // 10),
        "no end": scenarios.NAMED["no_end"],
        "half a frame": scenarios.raw(whole[: terminal_ends(path, body, whole) - 30], EVENTS),
    }
    bedrock_sim.script(faults[fault])
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.post(path, body)
        data = await reply.read()
        assert reply.status == 200
        assert says_error(path, data), data[-300:]
        assert not says_normal_end(path, data)
        (record,) = await gw.calls()
        assert (record["outcome"], record["status"]) == ("failed", 200)
        if fault == "exception":
            assert b"Too many tokens" in data
            assert record["error_native"] == "ThrottlingException"


@pytest.mark.parametrize("conversion", ["native converse", "chat to converse"])
async def test_a_message_without_its_usage_was_cut_and_its_cost_is_an_estimate(tmp_path, bedrock_sim, conversion):
    path, body = CONVERSIONS[conversion]
    whole = await whole_stream(bedrock_sim, path, body)
    bedrock_sim.script(scenarios.raw(whole[: terminal_ends(path, body, whole)], EVENTS))
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        assert says_error(path, await (await gw.post(path, body)).read())
        (record,) = await gw.calls()
        assert (record["outcome"], record["tokens"]["output"], record["estimated"]) == ("failed", 0, True)
        assert record["cost_usd"] > 0


@pytest.mark.parametrize("conversion", ["native converse", "chat to converse"])
@pytest.mark.parametrize("cut", [1, 30])
async def test_half_a_frame_is_an_error_also_after_the_last_event(tmp_path, bedrock_sim, conversion, cut):
    path, body = CONVERSIONS[conversion]
    whole = await whole_stream(bedrock_sim, path, body)
    bedrock_sim.script(scenarios.raw(whole[:-cut], EVENTS))
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        assert says_error(path, await (await gw.post(path, body)).read())
        (record,) = await gw.calls()
        assert (record["outcome"], record["estimated"], record["cost_usd"] > 0) == ("failed", True, True)


async def whole_stream(simulated, path, body):
    """Return the bytes of a complete stream, as the provider of this conversion sends it."""
    model = model_of(path, body)
    operation, sent = ("converse-stream", CONVERSE) if model == NOVA else ("invoke-with-response-stream", CLAUDE)
    simulated.script(scenarios.NAMED["text"])
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{simulated.url}/model/{model}/{operation}", json=sent, headers={"authorization": f"Bearer {KEY}"}
        ) as reply,
    ):
        return await reply.read()


@pytest.mark.parametrize("conversion", ["native converse", "chat to invoke", "chat to converse"])
async def test_a_stream_cut_at_any_byte_is_an_error(tmp_path, bedrock_sim, conversion):
    """Check that wherever the provider's stream is cut off, the client gets an error and no normal end.

    Every 37th position is tried.
    """
    path, body = CONVERSIONS[conversion]
    whole = await whole_stream(bedrock_sim, path, body)
    last = terminal_ends(path, body, whole)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        for at in [*range(1, last - 1, 37), last - 1]:
            bedrock_sim.script(scenarios.raw(whole[:at], EVENTS))
            reply = await gw.post(path, body)
            data = await reply.read()
            if reply.status == 200:
                assert says_error(path, data), (at, data)
                assert not says_normal_end(path, data), at
            else:
                assert reply.status == 502, "nothing had been sent, so the error has a status"


def model_of(path, body):
    return NOVA if NOVA in path or body.get("model") == NOVA else HAIKU


def terminal_ends(path, body, whole):
    """Return the position in the stream `whole` at which the message is complete. Only a frame with the usage may
    follow.
    """
    model = model_of(path, body)
    name = "bedrock_converse" if model == NOVA else "bedrock_model_invoke"
    flag = discover().flags[name]
    caps = capabilities(model)
    ask = ClientRequest(name, "", "generate", "POST", "/", "", {}, Members(b"{}"), model, stream=True)
    decoder = flag.decoder(ask, Target("b", name, model, flag.dialect_for(caps), caps), Head(200, {}))
    position = 0
    for event in decoder.feed(whole):
        position += len(event.raw)
        if event.kind in {"messageStop", "message_stop"}:
            return position
    raise AssertionError("the stream has no terminal event")


@conversions
async def test_letters_cut_between_bytes_arrive_whole(tmp_path, bedrock_sim, path, body):
    bedrock_sim.script(scenarios.NAMED["unicode"])
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.post(path, body)
        data = await reply.read()
        if path.startswith("/v1"):
            text = "".join(texts(path, data))
            assert text == "".join(scenarios.NAMED["unicode"].reply.text)
        assert says_normal_end(path, data)


def texts(path, data):
    for frame in sse.Decoder().feed(data):
        if frame.payload in {b"", b"[DONE]"}:
            continue
        event = json.loads(frame.payload)
        if "chat" in path:
            yield from (choice["delta"].get("content") or "" for choice in event["choices"])
        elif event["type"] == "content_block_delta":
            yield event["delta"].get("text", "")


async def test_a_silent_stream_is_pinged_in_the_dialects_that_have_pings(tmp_path, bedrock_sim):
    bedrock_sim.script(replace(scenarios.NAMED["text"], stall_after=2, stall_seconds=0.5))
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, ping_seconds=0.1) as gw:
        data = await (await gw.post(*CONVERSIONS["messages to invoke"])).read()
        assert data.count(b"event: ping") >= 2
        assert says_normal_end("/v1/messages", data)


@pytest.mark.parametrize("conversion", ["native converse", "chat to converse"])
async def test_a_client_that_stops_reading_ends_its_upstream_too(tmp_path, bedrock_sim, conversion):
    """Check that a client that stops reading is disconnected, and that the connection to the provider is closed too."""
    path, body = CONVERSIONS[conversion]
    bedrock_sim.script(scenarios.text(*["x" * 500_000] * 60))
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, stalled_seconds=0.3) as gw:
        client = await Raw.open("127.0.0.1", int(gw.url.rpartition(":")[2]))
        client.writer.write(post(path, body))
        (record,) = await gw.calls()
        assert record["outcome"] == "cancelled"
        assert gw.lines.entries("client.stalled")
        await asyncio.wait_for(bedrock_sim.requests[0].closed.wait(), 30)
        await client.close()


async def test_a_client_that_is_slow_but_reads_gets_its_stream_whole(tmp_path, bedrock_sim):
    path, body = CONVERSIONS["native converse"]
    bedrock_sim.script(scenarios.text(*["x" * 500_000] * 20))
    async with (
        gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, stalled_seconds=0.5) as gw,
        gw.session.post(gw.url + path, json=body) as reply,
    ):
        data = bytearray()
        async for piece in reply.content.iter_chunked(1_000_000):
            data += piece
            await asyncio.sleep(0.1)
    assert says_normal_end(path, bytes(data))


async def test_an_error_before_the_first_event_has_its_status(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        for path, body in CONVERSIONS.values():
            bedrock_sim.script(
                replace(scenarios.NAMED["text"], error="throttlingException", fail_after=0, message="slow down")
            )
            reply = await gw.post(path, body)
            assert reply.status == 429, path
            assert b"slow down" in await reply.read()
