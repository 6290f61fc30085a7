"""Tests that a reply's token counts are the same on every conversion, streamed or not, and equal the provider's.

The tests use the simulated providers' replies, and every recorded reply of the real Bedrock in each client's dialect.
They also check the counts in the call's record, because these determine the cost.
"""

import json
from urllib.parse import unquote

import pytest

from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.scenarios import Canned, Scenario, Tokens
from tests.defects.conversions import OPENAIS, both_ways
from tests.end_to_end.test_recordings import streamed
from tests.helpers.clients import CLIENTS
from tests.helpers.fold import fold, read_stream
from tests.helpers.gateway import KEY, bedrock, gate
from tests.helpers.recordings import exchanges, served
from tests.helpers.wires import line, wires

REPLY = Canned(
    text=("Hello", " you"), tokens=Tokens(input=3, output=7, cache_read=1000, cache_write_5m=200, cache_write_1h=50)
)
KINDS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
BY_KIND = (3, 7, 1000, 200, 50)
WITHOUT_WRITES = (253, 7, 1000, 0, 0)
"""Counts that clients of OpenAI's dialects get. Cache writes are missing, because OpenAI has no count for them."""


def counts(heard):
    return {"input": heard.input, "read": heard.read, "written": heard.written, "output": heard.output}


def recorded(tokens):
    """Return the counts in a call's record, under the keys `input`, `read`, `written` and `output`."""
    written = tokens["cache_write_5m"] + tokens["cache_write_1h"]
    return {"input": tokens["input"], "read": tokens["cache_read"], "written": written, "output": tokens["output"]}


def shown(counted, dialect):
    """Return the counts that a client of this dialect sees. `counted` are the provider's counts.

    Gemini's API counts tokens written to a cache as input tokens.
    """
    if dialect != "gemini_generate_content":
        return counted
    return {**counted, "input": counted["input"] + counted["written"], "written": 0}


@both_ways
@wires()
async def test_a_reply_has_the_same_counts_on_every_conversion(wire, stream, tmp_path):
    async with line(wire, tmp_path) as opened:
        opened.simulated.script(Scenario(REPLY))
        body = await opened.reply_body(wire.say.body(wire.say.user(wire.say.text("Hi"))), stream=stream)
        (record,) = await opened.gw.calls()
    expected = WITHOUT_WRITES if wire.provider in OPENAIS else BY_KIND
    assert tuple(record["tokens"][kind] for kind in KINDS) == expected
    assert counts(wire.say.read_reply(body)) == shown(recorded(record["tokens"]), wire.say.dialect)
    if wire.say.dialect == "anthropic_messages" and wire.provider not in OPENAIS and not stream:
        written = body["usage"]["cache_creation"]
        assert (written["ephemeral_5m_input_tokens"], written["ephemeral_1h_input_tokens"]) == (200, 50)


def reported(exchange):
    """Return the counts in a recorded reply of the real Bedrock."""
    if "response" in exchange:
        usage = exchange["response"]["usage"]
    else:
        (usage,) = [data["usage"] for kind, data in streamed(exchange) if kind == "metadata"]
    return {
        "input": usage["inputTokens"],
        "read": usage.get("cacheReadInputTokens", 0),
        "written": usage.get("cacheWriteInputTokens", 0),
        "output": usage["outputTokens"],
    }


@pytest.mark.parametrize("exchange", exchanges("converse", "converse-stream", status=200))
async def test_every_client_of_a_recorded_reply_is_told_what_bedrock_counted(exchange, tmp_path):
    model = unquote(exchange["path"].split("/")[2])
    stream = "response_base64" in exchange
    data, content_type = served(exchange)
    totals = {}
    async with (
        BedrockSim(keys={KEY}, models={model}) as simulated,
        gate(tmp_path, {"b": bedrock(simulated.url, models=[model], flags=["bedrock_converse"])}) as gw,
    ):
        for flag, say in CLIENTS.items():
            simulated.script(scenarios.raw(data, content_type))
            body = say.body(say.user(say.text("Hi")))
            if "model" in body:
                body |= {"model": model, "stream": stream}
            if stream and flag == "openai_chat":
                body["stream_options"] = {"include_usage": True}
            reply = await gw.post(say.path(model, stream=stream), body)
            assert reply.status == 200, reply.body
            whole = json.loads(reply.body) if not stream else None
            totals[flag] = whole or fold(say.dialect, read_stream(reply.body, reply.headers["content-type"]))
        records = await gw.calls(len(CLIENTS))
    expected = reported(exchange)
    assert {flag: counts(CLIENTS[flag].read_reply(body)) for flag, body in totals.items()} == {
        flag: shown(expected, CLIENTS[flag].dialect) for flag in totals
    }
    assert [recorded(record["tokens"]) for record in records] == [expected] * len(totals)
