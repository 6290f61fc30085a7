"""Tests of requests as a provider receives them: the credential, the model's name, and the headers."""

import pytest

from gateway.testkit import scenarios
from tests.helpers.gateway import CAP, HAIKU, KEY, NOVA, SONNET, bedrock, gate

ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
OPEN = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**"}]}}]
SIGNED = "AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=0"


def chat(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


def anthropic(upstream, **more):
    return {
        "baseurl": upstream.url,
        "apikey": KEY,
        "authorization": "x-api-key",
        "models": ["claude-haiku-4-5"],
        "compatibility": {"anthropic_messages": True},
        **more,
    }


MESSAGES = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}


def credentials(request):
    return {name: request.headers[name] for name in ("authorization", "x-api-key") if name in request.headers}


@pytest.mark.parametrize(
    ("entry", "client", "seen"),
    [
        ({}, {}, {"x-api-key": KEY}),
        ({}, {"x-api-key": "mine"}, {"x-api-key": KEY}),
        ({}, {"Authorization": "Bearer mine"}, {"x-api-key": KEY}),
        ({"auth_mode": ""}, {"Authorization": "Bearer mine"}, {"x-api-key": KEY}),
        ({"auth_mode": "override"}, {"x-api-key": "mine"}, {"x-api-key": KEY}),
        ({"auth_mode": "passthrough"}, {"x-api-key": "mine"}, {"x-api-key": "mine"}),
        ({"auth_mode": "passthrough"}, {"Authorization": "Bearer mine"}, {"authorization": "Bearer mine"}),
        ({"auth_mode": "passthrough"}, {}, {"x-api-key": KEY}),
        ({"auth_mode": "passthrough"}, {"Authorization": SIGNED}, {"x-api-key": KEY}),
        ({"auth_mode": "passthrough", "apikey": ""}, {}, {}),
        ({"auth_mode": "none"}, {"x-api-key": "mine", "Authorization": "Bearer mine"}, {}),
        ({"authorization": "bearer"}, {"x-api-key": "mine"}, {"authorization": f"Bearer {KEY}"}),
    ],
)
async def test_whose_credential_goes_upstream_is_the_providers_auth_mode(
    tmp_path, anthropic_upstream, entry, client, seen
):
    provider = anthropic(anthropic_upstream, **entry)
    async with gate(tmp_path, {"a": provider}, grants=OPEN) as running:
        await running.post("/v1/messages", MESSAGES, headers=client)
        (request,) = anthropic_upstream.requests
        assert credentials(request) == seen
        assert b"mine" not in running.lines.data


async def test_a_clients_own_key_that_is_refused_is_no_alarm_about_ours(tmp_path, anthropic_upstream):
    provider = anthropic(anthropic_upstream, auth_mode="passthrough")
    async with gate(tmp_path, {"a": provider}, grants=OPEN) as running:
        reply = await running.post("/v1/messages", MESSAGES, headers={"x-api-key": "mine"})
        assert reply.status == 401
        await running.calls()
        assert running.lines.entries("upstream.key_refused") == []


async def test_a_capabilitys_headers_yield_to_the_providers_own(tmp_path, bedrock_sim):
    """Check that the headers in a grant's capabilities are added to requests, and that a header of the provider's
    configuration replaces one with the same name.
    """
    everyone = {"add_headers": ["X-Team: all", "X-All: yes"]}
    some = {"models": f"b/{HAIKU}", "add_headers": ["X-Haiku: yes", "X-Provider: grant"]}
    grants = [*OPEN, {"src": ["(loopback)"], "app": {CAP: [everyone, some]}}]
    grants.append({"src": ["nobody"], "app": {CAP: [{"add_headers": ["X-Nobody: yes"]}]}})
    provider = bedrock(bedrock_sim.url, add_headers=["x-provider: entry"])
    async with gate(tmp_path, {"b": provider}, grants=grants) as running:
        for model in (HAIKU, NOVA):
            assert (await running.post("/v1/chat/completions", chat(model))).status == 200
    haiku, nova = (request.headers for request in bedrock_sim.requests)
    assert (haiku["x-team"], haiku["x-all"], haiku["x-haiku"], haiku["x-provider"]) == ("all", "yes", "yes", "entry")
    assert (nova["x-team"], nova["x-all"], nova.get("x-haiku")) == ("all", "yes", None)
    assert "x-nobody" not in haiku


def aliases(**models):
    return {"model_aliases": {"models": models}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat("fast")),
        ("/v1/messages", {**MESSAGES, "model": "fast"}),
        ("/bedrock/model/fast/converse", {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}),
        (
            "/bedrock/model/fast/invoke",
            {**{k: v for k, v in MESSAGES.items() if k != "model"}, "anthropic_version": "bedrock-2023-05-31"},
        ),
    ],
)
async def test_an_alias_stands_for_a_model_in_every_dialect(tmp_path, bedrock_sim, path, body):
    more = aliases(fast={"dst": [f"b/{HAIKU}"]})
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=OPEN, more=more) as running:
        reply = await running.post(path, body)
        assert reply.status == 200, await reply.text()
        (call,) = await running.calls()
        assert (call["model"], call["provider"]) == (HAIKU, "b")
        assert call["cost_usd"] is not None
    assert HAIKU in bedrock_sim.requests[0].path.replace("%3A", ":")


async def test_an_alias_is_resolved_before_it_is_authorised(tmp_path, bedrock_sim):
    grants = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": f"b/{HAIKU}"}]}}]
    more = aliases(fast={"dst": [f"b/{NOVA}", f"b/{HAIKU}"]}, slow={"dst": [f"b/{SONNET}"]})
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=grants, more=more) as running:
        granted, refused = [await running.post("/v1/chat/completions", chat(name)) for name in ("fast", "slow")]
        assert (granted.status, refused.status) == (200, 404)
        assert (await refused.json())["error"]["message"].startswith('model "slow" not found or not granted')
        assert [call["model"] for call in await running.calls(2)] == [HAIKU, "slow"]
        listed = await (await running.get("/v1/models")).json()
        names = {entry["id"]: entry["metadata"].get("alias_of") for entry in listed["data"]}
        assert names == {HAIKU: None, "fast": [f"b/{HAIKU}"]}
        assert (await running.get("/v1/models/fast")).status == 200
        assert (await running.get("/v1/models/slow")).status == 404


async def test_an_alias_stands_before_a_model_of_its_name(tmp_path, bedrock_sim):
    more = aliases(**{HAIKU: {"dst": [f"b/{NOVA}"]}})
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=OPEN, more=more) as running:
        await running.post("/v1/chat/completions", chat(HAIKU))
        assert (await running.calls())[0]["model"] == NOVA


@pytest.mark.parametrize(
    ("strategy", "used"),
    [("first", {HAIKU: 12}), ("round_robin", {HAIKU: 4, NOVA: 4, SONNET: 4})],
)
async def test_a_strategy_decides_which_target_a_call_goes_to(tmp_path, bedrock_sim, strategy, used):
    more = aliases(any={"dst": [f"b/{HAIKU}", f"b/{NOVA}", f"b/{SONNET}"], "strategy": strategy})
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=OPEN, more=more) as running:
        for _ in range(12):
            await running.post("/v1/chat/completions", chat("any"))
        models = [call["model"] for call in await running.calls(12)]
        assert {model: models.count(model) for model in models} == used


async def test_a_session_stays_with_one_target_and_sessions_spread(tmp_path, bedrock_sim):
    targets = [f"b/{HAIKU}", f"b/{NOVA}", f"b/{SONNET}"]
    more = {"model_aliases": {"strategy": "session", "models": {"any": {"dst": targets}}}}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=OPEN, more=more) as running:
        for number in range(24):
            headers = {"x-session-id": f"session-{number % 12}"}
            await running.post("/v1/chat/completions", chat("any"), headers=headers)
        calls = await running.calls(24)
    by_session = {}
    for call in calls:
        by_session.setdefault(call["session_id"], set()).add(call["model"])
    assert len(by_session) == 12
    assert all(len(models) == 1 for models in by_session.values())
    assert len(set.union(*by_session.values())) > 1


@pytest.mark.parametrize(("failover", "served", "attempts"), [(True, NOVA, 2), (False, HAIKU, 1)])
async def test_a_target_that_fails_is_followed_by_the_next(tmp_path, bedrock_sim, failover, served, attempts):
    bedrock_sim.script(scenarios.NAMED["throttle"])
    more = aliases(any={"dst": [f"b/{HAIKU}", f"b/{NOVA}"]}) | {"resilience": {"failover": failover}}
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=OPEN, more=more) as running:
        reply = await running.post("/v1/chat/completions", chat("any"))
        assert reply.status == (200 if failover else 429)
        (call,) = await running.calls()
    assert (call["model"], call["attempts"], [one["model"] for one in call["tried"]]) == (
        served,
        attempts,
        [HAIKU, NOVA] if failover else [],
    )


async def test_a_profiles_arn_is_priced_and_treated_as_its_base_model(tmp_path, bedrock_sim):
    """Check that an inference profile's ARN has the price and capabilities of its base model, which the configuration
    names.
    """
    bedrock_sim.profiles[ARN] = HAIKU
    known = bedrock(bedrock_sim.url, flags=("bedrock_model_invoke",), models=[ARN], base_models={ARN: HAIKU})
    async with gate(tmp_path, {"b": known}, grants=OPEN) as running:
        reply = await running.post("/v1/chat/completions", chat(ARN))
        assert reply.status == 200, await reply.text()
        (call,) = await running.calls()
        assert (call["model"], call["upstream_api"]) == (ARN, "bedrock_model_invoke")
        assert call["cost_usd"] is not None


async def test_a_profiles_arn_of_which_nothing_is_said_has_no_price(tmp_path, bedrock_sim):
    provider = bedrock(bedrock_sim.url, models=[ARN])
    async with gate(tmp_path, {"b": provider}, grants=OPEN) as running:
        assert (await running.post("/v1/chat/completions", chat(ARN))).status == 200
        assert (await running.calls())[0]["cost_usd"] is None
