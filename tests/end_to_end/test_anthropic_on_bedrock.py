"""Tests of Bedrock's endpoint for Anthropic's Messages API, whose paths begin with `/anthropic`: refused betas, silent
streams, and configured settings.
"""

import json

import pytest

from gateway.testkit import scenarios
from gateway.testkit.anthropic import AnthropicSim
from tests.helpers.gateway import HAIKU, KEY, SONNET, bedrock, gate

MESSAGES = {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
INVALID = scenarios.error("ValidationException", "invalid beta flag")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_messages_api_is_there_on_bedrocks_path_too(tmp_path, bedrock_sim, stream):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.post("/anthropic/v1/messages?beta=true", {"model": HAIKU, "stream": stream, **MESSAGES})
        assert reply.status == 200
        assert (b"event: message_stop" in reply.body) == stream


async def test_an_ordinary_provider_entry_reaches_bedrocks_messages_api(tmp_path):
    async with AnthropicSim(keys={KEY}) as simulated:
        entry = {
            "baseurl": f"{simulated.url}/anthropic", "apikey": KEY, "models": ["anthropic.claude-opus-5"],
            "compatibility": {"anthropic_messages": True}, "options": {"anthropic_messages": {"envelope": "mantle"}},
        }  # fmt: skip
        async with gate(tmp_path, {"mantle": entry}) as gw:
            headers = {"anthropic-beta": "claude-code-20250219,web-fetch-2025-09-10"}
            reply = await gw.post("/v1/messages", {"model": "anthropic.claude-opus-5", **MESSAGES}, headers=headers)
            assert reply.status == 200, reply.body
            assert reply.headers["x-irisgate-dropped"] == "/anthropic-beta/web-fetch-2025-09-10"
            (seen,) = simulated.requests
            assert (seen.path, seen.headers["anthropic-beta"]) == ("/anthropic/v1/messages", "claude-code-20250219")
            assert seen.headers["authorization"] == f"Bearer {KEY}"


CASES = {
    "messages": ("/v1/messages", {"model": HAIKU, **MESSAGES}, {"anthropic-beta": "effort-2025-11-24"}),
    "invoke": (
        f"/model/{HAIKU}/invoke",
        {"anthropic_version": "bedrock-2023-05-31", "anthropic_beta": ["effort-2025-11-24"], **MESSAGES},
        {},
    ),
    "converse": (
        f"/model/{HAIKU}/converse",
        {**CONVERSE, "additionalModelRequestFields": {"anthropic_beta": ["effort-2025-11-24"]}},
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_beta_unknown_to_bedrock_is_dropped_in_a_retry(tmp_path, bedrock_sim, case):
    """Check that a beta that Bedrock does not know is left out in a second attempt and reported as dropped."""
    path, body, headers = CASES[case]
    bedrock_sim.script(INVALID)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.post(path, body, headers=headers)
        assert reply.status == 200, reply.body
        assert reply.headers["x-irisgate-dropped"] == "/anthropic-beta/effort-2025-11-24"
        first, second = bedrock_sim.requests
        assert b"effort-2025-11-24" in first.body
        assert b"anthropic_beta" not in second.body


SEARCH, INTERLEAVED = "tool-search-tool-2025-10-19", "interleaved-thinking-2025-05-14"
DEFERRED = {"name": "f", "input_schema": {"type": "object"}, "defer_loading": True}
CLAUDE_CODE = {
    # what Claude Code sends natively, and in its Bedrock mode
    "messages": ("/v1/messages", {"model": HAIKU, **MESSAGES, "tools": [DEFERRED]}, {"anthropic-beta": SEARCH}),
    "invoke": (
        f"/model/{HAIKU}/invoke",
        {
            "anthropic_version": "bedrock-2023-05-31",
            "anthropic_beta": [INTERLEAVED, SEARCH],
            **MESSAGES,
            "tools": [DEFERRED],
        },
        {},
    ),
}


@pytest.mark.parametrize("case", CLAUDE_CODE)
async def test_a_refused_beta_goes_with_its_members_and_is_remembered(tmp_path, bedrock_sim, case):
    """Check that after Bedrock has refused a beta for a model, later calls of this model leave out the beta and its
    fields. Calls of other models still have the beta.
    """
    path, body, headers = CLAUDE_CODE[case]
    bedrock_sim.script(INVALID)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, models=[HAIKU, SONNET])}) as gw:
        for _ in range(2):
            reply = await gw.post(path, body, headers=headers)
            assert reply.status == 200, reply.body
            dropped = reply.headers["x-irisgate-dropped"].split(", ")
            assert sorted(dropped) == [f"/anthropic-beta/{SEARCH}", "/tools/0/defer_loading"]
        refused, second, third = bedrock_sim.requests
        assert SEARCH.encode() in refused.body
        assert b"defer_loading" in refused.body
        assert second.body == third.body
        assert b"defer_loading" not in second.body
        assert (INTERLEAVED.encode() in second.body) == (case == "invoke")
        other = body | {"model": SONNET} if case == "messages" else body
        reply = await gw.post(path.replace(HAIKU, SONNET), other, headers=headers)
        assert reply.status == 200
        assert SEARCH.encode() in bedrock_sim.requests[-1].body


async def test_betas_are_left_out_one_by_one_until_the_request_is_taken(tmp_path, bedrock_sim):
    bedrock_sim.script(INVALID, INVALID)
    newer = "context-management-2025-06-27"
    body = {"model": HAIKU, **MESSAGES, "tools": [DEFERRED]}
    headers = {"anthropic-beta": f"context-1m-2025-08-07,{SEARCH},{newer}"}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.post("/v1/messages", body, headers=headers)
        assert reply.status == 200
        sent = [json.loads(seen.body).get("anthropic_beta") for seen in bedrock_sim.requests]
        assert sent == [["context-1m-2025-08-07", SEARCH, newer], ["context-1m-2025-08-07", newer], [newer]]
        (record,) = await gw.calls()
        assert record["attempts"] == 3


async def test_another_refusal_is_not_taken_for_one_of_a_beta(tmp_path, bedrock_sim):
    path, body, headers = CLAUDE_CODE["messages"]
    bedrock_sim.script(scenarios.error("ValidationException", "max_tokens: must be smaller"))
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        assert (await gw.post(path, body, headers=headers)).status == 400
        assert len(bedrock_sim.requests) == 1


async def test_a_provider_that_refuses_losses_is_not_asked_again_without_betas(tmp_path, bedrock_sim):
    path, body, headers = CASES["messages"]
    bedrock_sim.script(INVALID)
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, on_loss="refuse")}) as gw:
        reply = await gw.post(path, body, headers=headers)
        assert reply.status == 400
        assert "/anthropic-beta/effort-2025-11-24" in json.loads(reply.body)["error"]["message"]
        assert len(bedrock_sim.requests) == 1


async def test_what_the_configuration_says_of_a_model_decides_what_it_is_sent(tmp_path, bedrock_sim):
    entry = bedrock(bedrock_sim.url, models=[SONNET], capabilities={"*sonnet*": {"sampling": "none"}})
    async with gate(tmp_path, {"b": entry}) as gw:
        reply = await gw.post("/v1/messages", {"model": SONNET, "temperature": 0.5, **MESSAGES})
        assert reply.headers["x-irisgate-dropped"] == "/temperature"
        assert "temperature" not in bedrock_sim.requests[0].json


PINGED = {
    "messages over invoke": (["bedrock_model_invoke"], "/v1/messages", b"event: ping"),
    "messages over converse": (["bedrock_converse"], "/v1/messages", b"event: ping"),
    "chat over converse": (["bedrock_converse"], "/v1/chat/completions", b": ping"),
}


@pytest.mark.parametrize("case", PINGED)
async def test_a_silent_provider_is_covered_by_pings_also_where_it_is_translated(tmp_path, bedrock_sim, case):
    flags, path, ping = PINGED[case]
    held = scenarios.Gate()
    bedrock_sim.script(scenarios.replace(scenarios.NAMED["text"], gate=held))
    async with (
        gate(tmp_path, {"b": bedrock(bedrock_sim.url, flags=flags)}, ping_seconds=0.05) as gw,
        gw.session.post(gw.url + path, json={"model": HAIKU, "stream": True, **MESSAGES}) as reply,
    ):
        held.let_pass()
        seen = b""
        while ping not in seen:
            seen += await reply.content.readany()
        held.let_pass(1000)
        await reply.read()


async def test_a_converse_client_gets_no_pings(tmp_path, bedrock_sim):
    """Check that a Converse client gets no pings while its provider is silent, because Converse's format has no
    pings.
    """
    held = scenarios.Gate()
    bedrock_sim.script(scenarios.replace(scenarios.NAMED["text"], gate=held))
    async with (
        gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, ping_seconds=0.02) as gw,
        gw.session.post(f"{gw.url}/model/{HAIKU}/converse-stream", json=CONVERSE) as reply,
    ):
        held.let_pass(1000)
        assert b"ping" not in await reply.read()


GUARDED = {
    "x-amzn-bedrock-guardrailidentifier": "g1",
    "x-amzn-bedrock-guardrailversion": "1",
    "x-amzn-bedrock-trace": "ENABLED",
}
INVOKE = {"anthropic_version": "bedrock-2023-05-31", **MESSAGES}


async def test_a_guardrail_of_invoke_reaches_converse_or_is_refused(tmp_path, bedrock_sim):
    """Check that a guardrail in an InvokeModel request is sent on if the request is translated to Converse. If the
    provider has no guardrails, the request is refused.
    """
    async with AnthropicSim(keys={KEY}) as simulated:
        own = {
            "baseurl": simulated.url,
            "apikey": KEY,
            "models": ["claude-x"],
            "compatibility": {"anthropic_messages": True},
        }
        providers = {"b": bedrock(bedrock_sim.url, flags=["bedrock_converse"]), "a": own}
        async with gate(tmp_path, providers) as gw:
            reply = await gw.post(f"/model/{HAIKU}/invoke", INVOKE, headers=GUARDED)
            assert reply.status == 200, reply.body
            guardrail = {"guardrailIdentifier": "g1", "guardrailVersion": "1", "trace": "enabled"}
            assert bedrock_sim.requests[0].json["guardrailConfig"] == guardrail
            reply = await gw.post("/model/claude-x/invoke", INVOKE, headers=GUARDED)
            assert reply.status == 400
            assert "guardrails are applied by Bedrock only" in json.loads(reply.body)["message"]
            assert simulated.requests == []
