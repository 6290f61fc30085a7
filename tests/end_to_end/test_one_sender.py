"""Tests of the second and later requests that a call sends to a provider: retries, and requests of a plugin's function
`steps`.

They must be sent, limited, counted and logged like the first request of a call.
"""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from gateway.testkit import scenarios
from tests.end_to_end.test_counting import CLIENTS, CONVERSE, MESSAGES
from tests.end_to_end.test_provider_faults import closed_port
from tests.end_to_end.test_quotas import balance, limited, quota
from tests.helpers.gateway import HAIKU, KEY, bedrock, gate

BUDGET = 10**9
BETA = {
    "anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["effort-2025-11-24"], "max_tokens": 10,
    "messages": MESSAGES,
}  # fmt: skip
REFUSAL = json.dumps({"message": "invalid beta flag"}).encode()
REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nx-amzn-errortype: ValidationException\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(REFUSAL), REFUSAL)
)


async def count(gw, client="messages"):
    path, body, _ = CLIENTS[client]
    return await gw.post(path.format(HAIKU), body(HAIKU))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("flag", ["bedrock_converse", "bedrock_model_invoke"])
async def test_a_key_that_is_refused_to_a_count_is_told_to_the_operator(tmp_path, bedrock_sim, client, flag):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, flags=[flag], apikey="wrong-canary-key")}) as gw:
        reply = await count(gw, client)
        text = await reply.text()
        assert (reply.status, "b refused the gateway's key" in text, "API Key" in text) == (502, True, False)
        (line,) = await gw.lines.until("upstream.key_refused")
        assert line["provider"] == "b"
        assert (await (await gw.get("/readyz")).json())["keys"] == "refused"
        metrics = await (await gw.get("/metrics")).text()
        assert 'irisgate_upstream_auth_failures_total{provider="b"} 1.0' in metrics
        assert 'irisgate_upstream_errors_total{code="upstream",provider="b"} 1.0' in metrics
        bedrock_sim.keys = {"wrong-canary-key"}
        assert (await count(gw, client)).status == 200
        assert (await (await gw.get("/readyz")).json())["keys"] == "accepted"


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_count_that_reaches_nobody_is_logged_with_the_reason(tmp_path, client):
    with closed_port() as port:
        async with gate(tmp_path, {"b": bedrock(f"http://127.0.0.1:{port}")}) as gw:
            assert (await count(gw, client)).status == 503
            (line,) = await gw.lines.until("upstream.unreachable")
            assert (line["provider"], line["reason"]) == ("b", "connection_refused")
            (record,) = await gw.calls()
            assert (record["attempts"], record["cost_usd"]) == (0, 0)
            metrics = await (await gw.get("/metrics")).text()
            assert 'irisgate_upstream_errors_total{code="unavailable",provider="b"} 1.0' in metrics


async def test_a_refused_count_is_one_error_of_the_provider(tmp_path, bedrock_sim):
    bedrock_sim.default = scenarios.error("ThrottlingException", "Too many requests")
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        assert (await count(gw)).status == 429
        metrics = await (await gw.get("/metrics")).text()
        assert 'irisgate_upstream_errors_total{code="rate_limit",provider="b"} 1.0' in metrics


@pytest.mark.parametrize("client", CLIENTS)
async def test_counts_are_requests_of_a_rate_limit_and_cost_nothing(tmp_path, bedrock_sim, client):
    limits = {"models": "**", "rate_limits": [{"requests": "3/hour"}, {"tokens": "100/hour"}]}
    async with limited(tmp_path, bedrock_sim, quota(BUDGET), limits) as gw:
        statuses = [(await count(gw, client)).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert balance(gw) == BUDGET
        assert [record["attempts"] for record in await gw.calls(4)] == [1, 1, 1, 0]


async def test_a_count_that_was_never_sent_uses_no_rate_limit(tmp_path, bedrock_sim):
    limits = {"models": "**", "rate_limits": [{"requests": "1/hour"}]}
    with closed_port() as port:
        bedrock_sim.url, url = f"http://127.0.0.1:{port}", bedrock_sim.url
        async with limited(tmp_path, bedrock_sim, quota(BUDGET), limits) as gw:
            assert [(await count(gw)).status for _ in range(2)] == [503, 503]
        bedrock_sim.url = url


@asynccontextmanager
async def refusing_once(then):
    """Serve a provider whose first reply refuses a beta.

    Later requests get the bytes `then` as their reply. If `then` is None, the provider accepts no later connection.
    """
    requests = []

    async def handle(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length[15:]))
        requests.append(head)
        if len(requests) > 1:
            writer.write(then)
        else:
            if then is None:
                server.close()
            writer.write(REFUSED)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    finally:
        server.close()


class At:
    """A stand-in for a simulated provider, with the two attributes that the function `limited` reads."""

    default = None

    def __init__(self, url):
        self.url = url


async def retried(tmp_path, then, path=f"/model/{HAIKU}/invoke"):
    async with (
        refusing_once(then) as (url, requests),
        limited(tmp_path, At(url), quota(BUDGET), provider={"flags": ["bedrock_model_invoke"]}) as gw,
    ):
        reply = await gw.post(path, BETA)
        (record,) = await gw.calls()
        assert BUDGET - balance(gw) == round(record["cost_usd"] * 10**9)
        assert record["charges_usd"] == ({"team": record["cost_usd"]} if record["cost_usd"] else {})
    return reply, record, requests


@pytest.mark.parametrize("path", [f"/model/{HAIKU}/invoke", f"/model/{HAIKU}/invoke-with-response-stream"])
async def test_a_second_try_that_reaches_nobody_is_free_as_the_first(tmp_path, path):
    """Check that a call is free if the provider refuses the first request, and cannot be reached for the second one."""
    reply, record, requests = await retried(tmp_path, None, path)
    assert (reply.status, len(requests)) == (503, 1)
    assert (record["attempts"], record["cost_usd"], record["estimated"]) == (1, 0, False)


@pytest.mark.parametrize("path", [f"/model/{HAIKU}/invoke", f"/model/{HAIKU}/invoke-with-response-stream"])
@pytest.mark.parametrize("then", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", b"nonsense\r\n\r\n"])
async def test_a_second_try_that_breaks_off_is_paid_for(tmp_path, path, then):
    """Check that a call is charged if the provider refuses the first request, reads the second one and then breaks off."""
    _, record, requests = await retried(tmp_path, then, path)
    assert len(requests) == record["attempts"] == 2
    assert (record["outcome"], record["estimated"]) == ("failed", True)
    assert record["cost_usd"] > 0


GARBAGE = {
    "no event stream": (b"\x00\x01garbage" * 10, "application/vnd.amazon.eventstream"),
    "empty": (b"", "application/vnd.amazon.eventstream"),
    "half a frame": (b"\x00\x00\x00\x60\x00\x00", "application/vnd.amazon.eventstream"),
}
STREAMS = {
    "native": (f"/model/{HAIKU}/invoke-with-response-stream", {key: BETA[key] for key in BETA if "beta" not in key}),
    "envelope": ("/v1/messages", {"model": HAIKU, "max_tokens": 10, "messages": MESSAGES, "stream": True}),
    "translated": ("/v1/chat/completions", {"model": HAIKU, "messages": MESSAGES, "stream": True}),
    "native converse": (f"/model/{HAIKU}/converse-stream", CONVERSE),
}


@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize("garbage", GARBAGE)
async def test_a_stream_whose_first_event_is_garbage_has_an_estimate(tmp_path, bedrock_sim, way, garbage):
    bedrock_sim.script(scenarios.raw(*GARBAGE[garbage]))
    path, body = STREAMS[way]
    async with limited(tmp_path, bedrock_sim, quota(BUDGET)) as gw:
        await gw.post(path, body)
        (record,) = await gw.calls()
        assert (record["outcome"], record["estimated"]) == ("failed", True)
        assert record["cost_usd"] * 10**9 >= 20 * 1_100
        assert record["charges_usd"] == {"team": record["cost_usd"]}
        assert BUDGET - balance(gw) == round(record["cost_usd"] * 10**9)


async def test_the_key_is_in_no_line_about_a_count(tmp_path, bedrock_sim):
    bedrock_sim.default = scenarios.error("AccessDeniedException", f"the key {KEY} may not count")
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        assert (await count(gw)).status == 403
        (line,) = await gw.lines.until("upstream.access_denied")
        assert "[redacted]" in line["message"]
        assert KEY.encode() not in gw.lines.data
