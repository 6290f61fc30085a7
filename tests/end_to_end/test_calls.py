"""Tests of single calls through the whole gateway: what the provider gets, what the client gets, and what is
recorded.
"""

import json

import aiohttp
import pytest
from yarl import URL

from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from tests.helpers.gateway import CAP, HAIKU, KEY, NOVA, SONNET, bedrock, gate

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
CURL = {"model": HAIKU, **CHAT}
MESSAGES = {"model": HAIKU, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
CLAUDE = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hello"}],
}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}

CLIENT_CREDENTIALS = {
    "authorization": "AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=00",
    "x-api-key": "sk-ant-client",
    "x-goog-api-key": "client",
    "x-amz-date": "20261123T000000Z",
    "x-amz-security-token": "client-token",
    "x-amz-content-sha256": "00",
    "amz-sdk-invocation-id": "1",
    "cookie": "a=b",
    "x-forwarded-for": "100.64.0.9",
    "tailscale-user-login": "boss@example.com",
}
BEHIND_A_PROXY = {"listeners": [{"listen": "127.0.0.1:0", "identity": "static", "login": "robot"}]}


async def test_the_product_pages_curl_works_with_only_model_invoke(tmp_path, bedrock_sim):
    provider = bedrock(bedrock_sim.url, flags=["bedrock_model_invoke"])
    async with gate(tmp_path, {"bedrock": provider}) as gw:
        bedrock_sim.script(scenarios.NAMED["text"])
        reply = await gw.post("/v1/chat/completions", CURL, headers={"content-type": "application/json"})
        body = json.loads(await reply.read())
        assert reply.status == 200
        assert body["choices"][0]["message"]["content"] == "Hello from a simulated model."
        assert body["usage"] == {**body["usage"], "prompt_tokens": 12, "completion_tokens": 7}
        (session,) = await gw.sessions()
        assert session["models"] == [HAIKU]
        assert session["tokens"] == {
            "input": 12,
            "output": 7,
            "cache_read": 0,
            "cache_write_5m": 0,
            "cache_write_1h": 0,
            "reasoning": 0,
        }
        assert session["cost_usd"] == pytest.approx(12 * 1.1e-6 + 7 * 5.5e-6)
        assert session["started_at"].endswith("Z")
        assert bedrock_sim.requests[0].path == f"/model/{HAIKU.replace(':', '%3A')}/invoke"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
async def test_a_chat_reaches_other_models_over_converse(tmp_path, bedrock_sim, path):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        assert (await gw.post(path, {"model": NOVA, **CHAT})).status == 200
        assert bedrock_sim.requests[0].path.endswith("/converse")


async def test_a_chat_to_a_model_without_converse_names_the_flag(tmp_path, bedrock_sim):
    """Check the error for a Chat request to a model that can only be called by Converse. If the provider lacks the
    compatibility flag `bedrock_converse`, the error tells to set this flag.
    """
    provider = bedrock(bedrock_sim.url, flags=["bedrock_model_invoke"])
    async with gate(tmp_path, {"b": provider}) as gw:
        reply = await gw.post("/v1/chat/completions", {"model": NOVA, **CHAT})
        assert reply.status == 400
        assert 'set \\"bedrock_converse\\": true' in await reply.text()


NATIVE = [
    (f"/bedrock/model/{NOVA}/converse", CONVERSE),
    (f"/model/{NOVA}/converse", CONVERSE),
    (f"/bedrock/model/{HAIKU.replace(':', '%3A')}/invoke", CLAUDE),
    (f"/bedrock/model/{NOVA}/invoke", {"schemaVersion": "messages-v1", **CONVERSE}),
    ("/v1/messages", MESSAGES),
    ("/v1/chat/completions", CURL),
]


@pytest.mark.parametrize(("path", "body"), NATIVE)
async def test_client_credentials_are_replaced_by_the_providers(tmp_path, bedrock_sim, path, body):
    """Check that the client's credentials are replaced by the provider's own credential."""
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, server=BEHIND_A_PROXY) as gw:
        reply = await gw.post(path, body, headers=CLIENT_CREDENTIALS)
        assert reply.status == 200, await reply.text()
        seen = bedrock_sim.requests[0]
        assert seen.headers["authorization"] == f"Bearer {KEY}"
        assert seen.leaked("authorization") == []
        assert seen.refused == ""


@pytest.mark.parametrize(("path", "body"), NATIVE[:4])
async def test_a_native_body_and_its_reply_are_not_touched(tmp_path, bedrock_sim, path, body):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        served = (
            b'{ "usage" : {"inputTokens": 3, "outputTokens": 1.0e0},  "unknown": [1.0], '
            b'"output": {"message" : {"content" :[]}}, "content" : [] }'
        )
        bedrock_sim.script(scenarios.raw(served))
        sent = json.dumps(body, indent=3).encode()
        reply = await gw.post(path, sent)
        assert await reply.read() == served
        assert bedrock_sim.requests[0].body == sent


async def test_an_arn_is_forwarded_as_it_was_authorised(tmp_path, bedrock_sim):
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mi1dadi0g15f"
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, models=[arn])}) as gw:
        for written in (arn, arn.replace(":", "%3A").replace("/", "%2F"), arn.replace("/", "%2F")):
            reply = await gw.session.post(f"{gw.url}/bedrock/model/{written}/converse", json=CONVERSE)
            assert reply.status == 200, await reply.text()
        assert {seen.path for seen in bedrock_sim.requests} == {
            f"/model/{arn.replace(':', '%3A').replace('/', '%2F')}/converse"
        }


@pytest.mark.parametrize(
    ("model", "status"),
    [("..%2F..%2Fadmin", 404), ("%252e%252e", 404), (f"{NOVA}%2F..%2Fx", 404), ("x%0A", 404), ("x%00", 400)],
)
async def test_a_path_that_is_no_model_is_refused_and_reaches_nobody(tmp_path, bedrock_sim, model, status):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.session.post(URL(f"{gw.url}/bedrock/model/{model}/converse", encoded=True), json=CONVERSE)
        assert reply.status == status
        assert bedrock_sim.requests == []


async def test_count_tokens_is_answered_natively_and_for_messages(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.post(f"/bedrock/model/{NOVA}/count-tokens", {"input": {"converse": CONVERSE}})
        assert json.loads(await reply.read())["inputTokens"] > 0
        body = {"model": HAIKU, "messages": MESSAGES["messages"]}
        reply = await gw.post("/v1/messages/count_tokens", body)
        assert json.loads(await reply.read())["input_tokens"] > 0
        assert bedrock_sim.requests[1].path == "/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/count-tokens"


async def test_each_region_gets_its_own_key_and_its_own_models(tmp_path):
    eu_model = SONNET.replace("us.", "eu.", 1)
    async with BedrockSim(keys={"us-key"}) as us, BedrockSim(keys={"eu-key"}) as eu:
        providers = {
            "bedrock-us": bedrock(us.url, models=[SONNET], apikey="us-key", cost_basis="bedrock-us"),
            "bedrock-eu": bedrock(eu.url, models=[eu_model], apikey="eu-key", cost_basis="bedrock-eu"),
        }
        async with gate(tmp_path, providers) as gw:
            for model in (SONNET, eu_model):
                assert (await gw.post("/v1/chat/completions", {"model": model, **CHAT})).status == 200
            records = await gw.calls(2)
            assert [(record["provider"], record["cost_basis"]) for record in records] == [
                ("bedrock-us", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
                ("bedrock-eu", "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0"),
            ]
            assert (len(us.requests), len(eu.requests)) == (1, 1)


async def test_the_higher_preference_wins_and_a_provider_prefix_chooses(tmp_path, bedrock_sim):
    providers = {
        "low": bedrock(bedrock_sim.url),
        "high": bedrock(bedrock_sim.url, preference=5),
        "off": bedrock(bedrock_sim.url, preference=9, disabled=True),
    }
    async with gate(tmp_path, providers) as gw:
        for model in (NOVA, f"low/{NOVA}"):
            assert (await gw.post("/v1/chat/completions", {"model": model, **CHAT})).status == 200
        assert (await gw.post(f"/bedrock/model/low/{NOVA}/converse", CONVERSE)).status == 200
        assert [record["provider"] for record in await gw.calls(3)] == ["high", "low", "low"]
        assert (await gw.post("/v1/chat/completions", {"model": f"off/{NOVA}", **CHAT})).status == 404


async def test_what_a_translation_cannot_carry_is_named_or_refused(tmp_path, bedrock_sim):
    providers = {
        "told": bedrock(bedrock_sim.url, models=[NOVA]),
        "strict": bedrock(bedrock_sim.url, models=[HAIKU], on_loss="refuse"),
    }
    async with gate(tmp_path, providers) as gw:
        reply = await gw.post("/v1/chat/completions", {"model": NOVA, "seed": 1, **CHAT})
        assert (reply.status, reply.headers["x-irisgate-dropped"]) == (200, "/seed")
        reply = await gw.post("/v1/chat/completions", {"model": HAIKU, "seed": 1, **CHAT})
        assert reply.status == 400
        assert "/seed" in await reply.text()
        assert len(bedrock_sim.requests) == 1


async def test_a_native_anthropic_and_openai_provider_are_passed_through(tmp_path, anthropic_upstream, openai_upstream):
    providers = {
        "anthropic": {
            "baseurl": anthropic_upstream.url,
            "apikey": KEY,
            "authorization": "x-api-key",
            "models": ["claude-haiku-4-5"],
            "compatibility": {"anthropic_messages": True},
        },
        "openai": {"baseurl": openai_upstream.url + "/v1/", "apikey": KEY, "models": ["gpt-x"]},
    }
    async with gate(tmp_path, providers) as gw:
        for stream in (False, True):
            reply = await gw.post("/v1/messages", {**MESSAGES, "model": "claude-haiku-4-5", "stream": stream})
            assert reply.status == 200, await reply.text()
            reply = await gw.post("/v1/chat/completions", {"model": "gpt-x", "stream": stream, **CHAT})
            assert reply.status == 200, await reply.text()
            # a chat client of an Anthropic provider, and a Bedrock client of it
            reply = await gw.post("/v1/chat/completions", {"model": "claude-haiku-4-5", "stream": stream, **CHAT})
            assert reply.status == 200, await reply.text()
            operation = "invoke-with-response-stream" if stream else "invoke"
            reply = await gw.post(f"/bedrock/model/claude-haiku-4-5/{operation}", CLAUDE)
            assert reply.status == 200, await reply.text()
        assert {seen.path for seen in openai_upstream.requests} == {"/v1/chat/completions"}
        assert {seen.headers["x-api-key"] for seen in anthropic_upstream.requests} == {KEY}
        assert all(record["reported"] for record in await gw.calls(8))


async def test_a_reply_names_its_request_and_the_log_has_it_whole(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        reply = await gw.post(
            "/v1/messages",
            MESSAGES,
            headers={
                "x-claude-code-session-id": "11111111-2222-3333-4444-555555555555",
                "user-agent": "claude-cli/2.1.197 (external, sdk-cli)",
            },
        )
        (record,) = await gw.calls()
        assert record["id"] == reply.headers["x-request-id"]
        assert record["session_id"] == "11111111-2222-3333-4444-555555555555"
        assert (record["agent"], record["api"], record["upstream_api"]) == (
            "claude-cli",
            "anthropic_messages",
            "bedrock_model_invoke",
        )
        await gw.sessions()
        session = await (await gw.get(f"/api/sessions/{record['session_id']}")).json()
        assert (session["calls"], session["identity"]) == (1, "(loopback)")


async def test_metrics_count_calls_tokens_and_dollars(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        bedrock_sim.script(scenarios.NAMED["cached"])
        await gw.post("/v1/chat/completions", {"stream": True, **CURL})
        await gw.calls()
        text = await (await gw.get("/metrics")).text()
        labels = f'model="{HAIKU}",provider="b"'
        assert f'irisgate_tokens_total{{kind="cache_write_1h",{labels}}} 50.0' in text
        assert f"irisgate_cost_usd_total{{{labels}}}" in text
        assert "irisgate_time_to_first_event_seconds_count" in text
        assert "irisgate_sessions_active 1.0" in text


async def test_cost_of_cached_tokens_is_the_same_on_every_conversion(tmp_path, bedrock_sim):
    """Check that a call with cached tokens has the same cost on every conversion: the cost at the prices of Haiku 4.5
    in the US.

    The call has 3 input tokens, 1000 read from the cache, 200 written to the cache for 5 minutes and 50 for an hour,
    and 7 output tokens.
    """
    expected = (3 * 1.1 + 7 * 5.5 + 1000 * 0.11 + 200 * 1.375 + 50 * 2.2) / 1e6
    asks = [
        ("/v1/messages", MESSAGES), ("/v1/messages", {**MESSAGES, "stream": True}),
        ("/v1/chat/completions", CURL), ("/v1/chat/completions", {**CURL, "stream": True}),
        (f"/bedrock/model/{HAIKU}/invoke", CLAUDE), (f"/bedrock/model/{HAIKU}/invoke-with-response-stream", CLAUDE),
        (f"/bedrock/model/{HAIKU}/converse", CONVERSE), (f"/bedrock/model/{HAIKU}/converse-stream", CONVERSE),
    ]  # fmt: skip
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        for path, body in asks:
            bedrock_sim.script(scenarios.NAMED["cached"])
            assert (await gw.post(path, body)).status == 200
        costs = [record["cost_usd"] for record in await gw.calls(len(asks))]
        assert costs == pytest.approx([expected] * len(asks))


async def test_a_model_without_a_price_costs_an_unknown_sum(tmp_path, bedrock_sim):
    provider = bedrock(bedrock_sim.url)
    del provider["cost_basis"]
    async with gate(tmp_path, {"b": provider}) as gw:
        await gw.post("/v1/chat/completions", CURL)
        (session,) = await gw.sessions()
        assert session["cost_usd"] is None
        assert (await gw.calls())[0]["cost_usd"] is None


@pytest.mark.parametrize(
    ("name", "chat", "messages", "native"),
    [
        ("ThrottlingException", 429, 429, 429),
        ("AccessDeniedException", 403, 403, 403),
        ("ModelTimeoutException", 504, 504, 408),
        ("ServiceQuotaExceededException", 429, 429, 400),
        ("ModelNotReadyException", 503, 529, 429),
        ("InternalServerException", 500, 500, 500),
        ("ServiceUnavailableException", 503, 529, 503),
    ],
)
async def test_an_error_of_bedrock_has_each_clients_status_and_awss_words(
    tmp_path, bedrock_sim, name, chat, messages, native
):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        asks = [
            ("/v1/chat/completions", CURL, chat),
            ("/v1/messages", MESSAGES, messages),
            (f"/bedrock/model/{HAIKU}/converse", CONVERSE, native),
        ]
        for path, body, status in asks:
            bedrock_sim.script(scenarios.error(name, "in AWS's own words"))
            reply = await gw.post(path, body)
            assert (reply.status, "in AWS's own words" in await reply.text()) == (status, True), path
        assert reply.headers["x-amzn-errortype"].startswith(name)
        assert [record["error_native"] for record in await gw.calls(3)] == [name] * 3


async def test_a_key_that_the_provider_refuses_is_logged_and_counted(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url, apikey="wrong-canary-key")}) as gw:
        assert (await gw.post("/v1/chat/completions", CURL)).status == 502
        await gw.calls()
        (line,) = gw.lines.entries("upstream.key_refused")
        assert line["provider"] == "b"
        assert 'irisgate_upstream_auth_failures_total{provider="b"} 1.0' in await (await gw.get("/metrics")).text()
        assert b"wrong-canary-key" not in gw.lines.data


async def test_a_provider_that_cannot_be_reached_is_a_503(tmp_path):
    async with gate(tmp_path, {"b": bedrock("http://127.0.0.1:9")}) as gw:
        reply = await gw.post("/v1/chat/completions", CURL)
        assert reply.status == 503


async def test_large_bodies_pass_and_larger_ones_are_a_413(tmp_path, bedrock_sim):
    """Check that a body of twenty megabytes is accepted, and that a body above the limit gets a 413 in the client's API
    format.
    """
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        big = {**CURL, "messages": [{"role": "user", "content": "x" * 20_000_000}]}
        assert (await gw.post("/v1/chat/completions", big)).status == 200
        over = b'{"model": "' + b"x" * (33 * 1024 * 1024) + b'"}'
        for path, sign in (
            ("/v1/chat/completions", b'"code":"request_too_large"'),
            ("/v1/messages", b'"type":"request_too_large"'),
            (f"/bedrock/model/{HAIKU}/converse", b'{"message":'),
        ):
            reply = await gw.post(path, over)
            assert reply.status == 413
            assert sign in await reply.read()


GRANTS = [
    {"src": ["(loopback)"], "app": {CAP: [{"role": "user"}, {"models": f"b/{HAIKU}"}]}},
]


async def test_only_what_is_granted_is_listed_and_found(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=GRANTS) as gw:
        listed = await (await gw.get("/v1/models")).json()
        assert [entry["id"] for entry in listed["data"]] == [HAIKU]
        (provider,) = await (await gw.get("/api/providers")).json()
        assert provider["models"] == [HAIKU]
        profiles = await (await gw.get("/bedrock/inference-profiles?type=SYSTEM_DEFINED")).json()
        assert [entry["inferenceProfileId"] for entry in profiles["inferenceProfileSummaries"]] == [HAIKU]
        assert (await gw.get("/metrics")).status == 403
        unknown = await gw.post("/v1/chat/completions", {"model": "made-up", **CHAT})
        denied = await gw.post("/v1/chat/completions", {"model": SONNET, **CHAT})
        assert (unknown.status, denied.status) == (404, 404)
        messages = [json.loads(await reply.read())["error"]["message"] for reply in (unknown, denied)]
        assert messages[0] == 'model "made-up" not found or not granted'
        assert messages[1].startswith(f'model "{SONNET}" not found or not granted')
        assert NOVA not in messages[1]


async def test_a_caller_without_a_role_is_denied_in_every_dialect_and_recorded(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=[]) as gw:
        for path, body, sign in (
            ("/v1/chat/completions", CURL, "permission_error"),
            ("/v1/messages", MESSAGES, '"type":"permission_error"'),
            (f"/bedrock/model/{HAIKU}/converse", CONVERSE, "access denied: no role granted"),
        ):
            reply = await gw.post(path, body)
            assert (reply.status, sign in await reply.text()) == (403, True)
        assert reply.headers["x-amzn-errortype"] == "AccessDeniedException"
        assert {record["outcome"] for record in await gw.calls(3)} == {"refused"}
        for path in ("/v1/models", "/api/providers", "/api/sessions", "/bedrock/inference-profiles", "/ui/"):
            assert (await gw.get(path)).status == 403, path
        assert (await gw.get("/healthz")).status == 200


async def test_a_page_of_another_site_spends_no_money(tmp_path, bedrock_sim):
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"host": "evil.example"}):
            for path, body in (("/v1/messages", MESSAGES), ("/v1/chat/completions", CURL)):
                assert (await gw.post(path, body, headers=headers)).status == 403
            assert (await gw.get("/api/sessions", headers=headers)).status == 403
        assert bedrock_sim.requests == []


async def test_a_static_listener_names_its_callers(tmp_path, bedrock_sim):
    socket_path = tmp_path / "http.sock"
    server = {
        "listeners": [
            {"listen": "127.0.0.1:0"},
            {"listen": f"unix:{socket_path}", "identity": "static", "login": "team@example.com"},
        ]
    }
    async with (
        gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, server=server) as gw,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket_path))) as session,
    ):
        async with session.post("http://localhost/v1/chat/completions", json=CURL) as reply:
            assert reply.status == 200
        await gw.post("/v1/chat/completions", CURL)
        assert [record["identity"] for record in await gw.calls(2)] == ["team@example.com", "(loopback)"]


async def test_an_admin_sees_everybodys_sessions_and_a_user_their_own(tmp_path, bedrock_sim):
    socket_path = tmp_path / "http.sock"
    server = {
        "listeners": [
            {"listen": "127.0.0.1:0"},
            {"listen": f"unix:{socket_path}", "identity": "static", "login": "team@example.com"},
        ]
    }
    grants = [
        {"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": "**"}]}},
        {"src": ["(loopback)"], "app": {CAP: [{"role": "admin"}]}},
    ]
    async with (
        gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, server=server, grants=grants) as gw,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket_path))) as team,
    ):
        await gw.post("/v1/chat/completions", CURL)
        await (await team.post("http://localhost/v1/chat/completions", json=CURL)).read()
        assert {session["identity"] for session in await gw.sessions()} == {"(loopback)", "team@example.com"}
        theirs = (await (await team.get("http://localhost/api/sessions")).json())["sessions"]
        assert [session["identity"] for session in theirs] == ["team@example.com"]
