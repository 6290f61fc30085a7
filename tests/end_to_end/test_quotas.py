"""Tests of quotas and rate limits with real calls: refusals, charges, and balances after a change of the
configuration.
"""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from time import time, time_ns

import pytest

from gateway.config.load import loads
from gateway.money.quotas.windows import Window
from gateway.store.base import rfc3339
from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.scenarios import Gate
from tests.helpers.gateway import CAP, HAIKU, KEY, NOVA, bedrock, gate
from tests.web.admin.conftest import TEXT as FILE
from tests.web.admin.conftest import from_file

PRICE = 12 * 1_100 + 7 * 5_500
"""Price in nanodollars of the simulator's plain reply, for Haiku in the US: 12 input tokens and 7 output tokens."""
TEXT = scenarios.NAMED["text"]
HELLO = [{"role": "user", "content": "hello"}]
CHAT = ("/v1/chat/completions", {"model": HAIKU, "max_tokens": 10, "messages": HELLO})
MESSAGES = ("/v1/messages", {"model": HAIKU, "max_tokens": 10, "messages": HELLO})
CONVERSE = (
    f"/bedrock/model/{HAIKU}/converse",
    {"inferenceConfig": {"maxTokens": 10}, "messages": [{"role": "user", "content": [{"text": "hello"}]}]},
)
INVOKE = (
    f"/bedrock/model/{HAIKU}/invoke",
    {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 10, "messages": HELLO},
)
ALL = [CHAT, MESSAGES, CONVERSE, INVOKE]
USER = "alice@example.com"
BOSS = "boss@example.com"
SERVER = {
    "listeners": [
        {"listen": "127.0.0.1:0", "identity": "static", "login": USER},
        {"listen": "127.0.0.2:0", "identity": "static", "login": BOSS},
    ]
}


def usd(nanodollars):
    return f"${nanodollars // 10**9}.{nanodollars % 10**9:09}"


@asynccontextmanager
async def limited(state, sim, quotas, *items, provider=None, **more):
    """Yield a gateway on which everybody may use all models. Each call is charged to all buckets in `quotas`.

    The first listener is for Alice, and the second for an admin.
    """
    sim.default = sim.default or TEXT
    charged = {"models": "**", "quotas": [{"bucket": name} for name in quotas]}
    grants = [
        {"src": ["*"], "app": {CAP: [{"role": "user"}, charged, *items]}},
        {"src": [BOSS], "app": {CAP: [{"role": "admin"}]}},
    ]
    providers = {"bedrock": bedrock(sim.url, **(provider or {}))}
    async with gate(state, providers, grants=grants, server=SERVER, more={"quotas": quotas}, **more) as gw:
        gw.book = gw.running.gateway.quotas
        gw.admin = gw.running.urls[1]
        yield gw


def balance(gw, bucket="team"):
    return gw.book.level(bucket).balance


def quota(nanodollars, **more):
    return {"team": {"capacity": usd(nanodollars), **more}}


async def settled(gw, count=1):
    await gw.calls(count)
    assert gw.book.levels() == [] or all(level.reserved == 0 for level in gw.book.levels())


async def logged(gw, event):
    return (await gw.lines.until(event))[0]


def said(path, reply):
    """Return the error code and the message of a refusal. They are read in the API format to which the path belongs."""
    body = json.loads(reply.body)
    if path.startswith("/bedrock"):
        return reply.headers["x-amzn-errortype"], body["message"]
    if path == "/v1/messages":
        assert body["type"] == "error"
        return body["error"]["type"], body["error"]["message"]
    assert body["error"]["type"] == body["error"]["code"]
    return body["error"]["code"], body["error"]["message"]


CODES = {
    "/v1/chat/completions": "insufficient_quota",
    "/v1/messages": "rate_limit_error",
}


@pytest.mark.parametrize(("path", "body"), ALL)
async def test_of_200_calls_at_once_a_bucket_is_overdrawn_by_one_at_most(tmp_path, bedrock_sim, path, body):
    bedrock_sim.default = replace(TEXT, delay=0.05)
    async with limited(tmp_path, bedrock_sim, quota(20 * PRICE)) as gw:
        replies = await asyncio.gather(*(gw.post(path, body) for _ in range(200)))
        await settled(gw, 200)
        served = [reply for reply in replies if reply.status == 200]
        refused = [reply for reply in replies if reply.status == 429]
        assert len(served) + len(refused) == 200
        assert 1 <= len(served) <= 21
        assert balance(gw) == (20 - len(served)) * PRICE >= -PRICE
        for reply in refused:
            code, message = said(path, reply)
            assert code == CODES.get(path, "ThrottlingException")
            assert message.startswith('quota "team" exceeded: ')
            assert int(reply.headers["retry-after"]) >= 1
        assert len(bedrock_sim.requests) == len(served)


@pytest.mark.parametrize(("path", "body"), ALL)
async def test_sequential_calls_pass_as_long_as_the_bucket_pays(tmp_path, bedrock_sim, path, body):
    """Check that consecutive calls are allowed until the bucket is used up."""
    async with limited(tmp_path, bedrock_sim, quota(3 * PRICE)) as gw:
        statuses = [(await gw.post(path, body)).status for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        assert balance(gw) == 0


async def test_a_refusal_is_a_line_in_the_log_with_bucket_login_and_model(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, {"daily:<user>": {"capacity": "$0.00"}}) as gw:
        reply = await gw.post(*CHAT)
        line = await logged(gw, "quota.exceeded")
        assert (line["level"], line["bucket"], line["login"], line["model"]) == (
            "warning",
            f"daily:{USER}",
            USER,
            HAIKU,
        )
        assert line["request_id"] == reply.headers["x-request-id"]
        (record,) = await gw.calls()
        assert (record["status"], record["outcome"], record["error"], record["cost_usd"]) == (
            429,
            "refused",
            "quota",
            0,
        )


async def test_every_user_has_a_bucket_of_their_own(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, {"daily:<user>": {"capacity": usd(PRICE)}}) as gw:
        assert [(await gw.post(*CHAT)).status for _ in range(2)] == [200, 429]
        gw.url = gw.admin
        assert [(await gw.post(*CHAT)).status for _ in range(2)] == [200, 429]


async def test_a_call_that_is_refused_upstream_costs_nothing(tmp_path, bedrock_sim):
    bedrock_sim.default = scenarios.NAMED["throttle"]
    async with limited(tmp_path, bedrock_sim, quota(PRICE)) as gw:
        assert (await gw.post(*CONVERSE)).status == 429
        await settled(gw)
        assert balance(gw) == PRICE


async def test_a_call_that_never_reached_the_provider_costs_nothing(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(PRICE), provider={"baseurl": "http://127.0.0.1:9"}) as gw:
        assert (await gw.post(*CONVERSE)).status >= 500
        await settled(gw)
        assert balance(gw) == PRICE


STREAMS = [
    ("/v1/chat/completions", {**CHAT[1], "max_tokens": 1000, "stream": True}),
    ("/v1/messages", {**MESSAGES[1], "max_tokens": 1000, "stream": True}),
    (f"/bedrock/model/{HAIKU}/converse-stream", {**CONVERSE[1], "inferenceConfig": {"maxTokens": 1000}}),
    (f"/bedrock/model/{HAIKU}/invoke-with-response-stream", {**INVOKE[1], "max_tokens": 1000}),
]


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_an_abandoned_stream_is_charged_but_not_in_full(tmp_path, bedrock_sim, path, body):
    """Check that a stream whose client disconnects is charged, but less than was reserved for it."""
    bedrock_sim.default = replace(TEXT, gate=(held := Gate()))
    async with limited(tmp_path, bedrock_sim, quota(10**9)) as gw:
        async with gw.session.post(gw.url + path, json=body) as response:
            held.let_pass(2)
            await response.content.readany()
            (level,) = gw.book.levels()
            assert level.reserved >= 1000 * 5_500
        await settled(gw)
        (record,) = await gw.calls()
        assert (record["outcome"], record["estimated"]) == ("cancelled", True)
        charged = 10**9 - balance(gw)
        assert 0 < charged < level.reserved
        assert charged >= round(record["cost_usd"] * 10**9)


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_a_stream_that_ends_well_is_charged_what_was_reported(tmp_path, bedrock_sim, path, body):
    async with limited(tmp_path, bedrock_sim, quota(10**9)) as gw:
        assert (await gw.post(path, body)).status == 200
        await settled(gw)
        assert balance(gw) == 10**9 - PRICE
        (record,) = await gw.calls()
        assert record["charges_usd"] == {"team": PRICE / 10**9}


async def test_counting_tokens_is_free_and_needs_nothing_left(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(0)) as gw:
        body = {"model": HAIKU, "messages": HELLO}
        assert (await gw.post("/v1/messages/count_tokens", body)).status == 200


@pytest.mark.parametrize("basis", [None, "openai"])
async def test_a_model_without_a_price_is_refused_with_the_key_to_set(tmp_path, bedrock_sim, basis):
    async with limited(tmp_path, bedrock_sim, quota(10**9), provider={"cost_basis": basis}) as gw:
        reply = await gw.post(*CHAT)
        assert reply.status == 429
        assert '"cost_basis" of provider "bedrock"' in said(CHAT[0], reply)[1].replace("\\", "")
        assert bedrock_sim.requests == []


async def test_a_quota_that_is_granted_and_not_defined_refuses(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, {}, {"models": "**", "quotas": [{"bucket": "gone"}]}) as gw:
        reply = await gw.post(*CHAT)
        assert (reply.status, said(*[CHAT[0], reply])[0]) == (429, "insufficient_quota")


async def test_what_is_not_charged_to_a_quota_goes_on_when_it_is_empty(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, {}, {"models": f"bedrock/{NOVA}", "quotas": [{"bucket": "q"}]}) as gw:
        assert (await gw.post(*CHAT)).status == 200
        assert (await gw.post("/v1/chat/completions", {**CHAT[1], "model": NOVA})).status == 429


async def test_only_the_serving_providers_quota_is_charged(tmp_path, bedrock_sim):
    """Check that a call is charged only to the quota of the provider that serves it. A provider whose quota is empty is
    skipped.
    """
    bedrock_sim.default = TEXT
    capabilities = [{"models": f"{name}/**", "quotas": [{"bucket": name}]} for name in ("a", "b")]
    grants = [{"src": ["*"], "app": {CAP: [{"role": "user"}, *capabilities]}}]
    providers = {name: bedrock(bedrock_sim.url) for name in ("a", "b")}
    quotas = {name: {"capacity": usd(PRICE)} for name in ("a", "b")}
    async with gate(tmp_path, providers, grants=grants, more={"quotas": quotas}) as gw:
        gw.book = gw.running.gateway.quotas
        for left, provider in (({"a": 0, "b": PRICE}, "a"), ({"a": 0, "b": 0}, "b")):
            assert (await gw.post(*CHAT)).status == 200
            assert {name: balance(gw, name) for name in quotas} == left
            assert (await gw.calls(2 - (provider == "a")))[-1]["provider"] == provider
        assert (await gw.post(*CHAT)).status == 429


async def test_a_quota_that_notifies_lets_calls_through_and_says_so_in_a_header(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(10 * PRICE, on_exceed="notify")) as gw:
        replies = [await gw.post(*CHAT) for _ in range(13)]
        assert {reply.status for reply in replies} == {200}
        notices = [reply.headers.get("x-irisgate-quota") for reply in replies]
        assert notices == [None] * 8 + [f"team; used={part}" for part in ("0.80", "0.90", "1.00", "1.10", "1.20")]
        assert gw.book.used() == {"team": 1.3}


async def test_balances_survive_a_reload_and_a_removed_quota_allows(tmp_path, bedrock_sim):
    """Check that a bucket's balance survives a change of its quota's configuration, and that calls are allowed when the
    quota is removed.
    """
    async with limited(tmp_path, bedrock_sim, quota(2 * PRICE)) as gw:
        assert (await gw.post(*CHAT)).status == 200
        quotas = gw.running.gateway.runtime.config.quotas
        gw.book.configured({"team": replace(quotas["team"], capacity=5 * PRICE)})
        assert balance(gw) == PRICE
        gw.book.configured({})
        assert gw.book.levels() == []


async def test_a_changed_file_is_what_buckets_go_by(tmp_path):
    (tmp_path / "state").mkdir()
    path = tmp_path / "config.hujson"
    path.write_text(FILE)
    async with from_file(path) as served:
        path.write_text(FILE.replace('  "grants"', '  "quotas": {"team": {"capacity": "$7.00"}},\n  "grants"'))
        await served.reloader.reload()
        assert served.running.gateway.quotas.level("team").balance == 7 * 10**9


async def test_balances_outlive_the_process(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(2 * PRICE)) as gw:
        assert (await gw.post(*CHAT)).status == 200
    async with limited(tmp_path, bedrock_sim, quota(2 * PRICE)) as gw:
        assert balance(gw) == PRICE


async def refill(gw, body, **options):
    options = {"headers": {"content-type": "application/json"}, **options}
    gw.url = gw.admin
    return await gw.post("/api/quotas/refill", body, **options)


async def test_a_refill_lets_calls_through_at_once_and_is_noted_and_kept(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, quota(2 * PRICE)) as gw:
        assert [(await gw.post(*CHAT)).status for _ in range(3)] == [200, 200, 429]
        reply = await refill(gw, {"bucket": "team", "amount": "$5.00"})
        row = await reply.json()
        assert (row["bucket"], row["balance_usd"], row["refills_at"]) == ("team", 2 * PRICE / 10**9, None)
        line = await logged(gw, "quota.refilled")
        assert (line["who"], line["bucket"], line["amount_usd"]) == (BOSS, "team", 2 * PRICE / 10**9)
        assert (await gw.post(*CHAT)).status == 200
    async with limited(tmp_path, bedrock_sim, quota(2 * PRICE)) as gw:
        assert balance(gw) == PRICE


@pytest.mark.parametrize(("path", "body"), ALL)
async def test_more_requests_than_a_rate_allows_are_refused_with_a_time_to_wait(tmp_path, bedrock_sim, path, body):
    async with limited(tmp_path, bedrock_sim, {}, {"models": "**", "rate_limits": [{"requests": "3/hour"}]}) as gw:
        replies = [await gw.post(path, body) for _ in range(5)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
        assert 1100 <= int(replies[3].headers["retry-after"]) <= 1200
        assert "rate limit of requests 3/hour reached" in await replies[3].text()
        (record,) = [record for record in await gw.calls(5) if record["status"] == 429][:1]
        assert record["error"] == "rate_limit"
        assert gw.lines.entries("quota.exceeded") == []


async def test_tokens_are_held_by_estimate_and_counted_as_reported(tmp_path, bedrock_sim):
    async with limited(tmp_path, bedrock_sim, {}, {"rate_limits": [{"tokens": "38/hour"}]}) as gw:
        assert [(await gw.post(*CHAT)).status for _ in range(4)] == [200, 200, 429, 429]


async def test_calls_at_once_cannot_pass_a_rate_of_tokens(tmp_path, bedrock_sim):
    bedrock_sim.default = replace(TEXT, delay=0.05)
    async with limited(tmp_path, bedrock_sim, {}, {"rate_limits": [{"tokens": "19/hour"}]}) as gw:
        replies = await asyncio.gather(*(gw.post(*CHAT) for _ in range(20)))
        assert sorted(reply.status for reply in replies) == [200] + [429] * 19


@pytest.mark.parametrize(("per", "second"), [("user", 429), ("user_model", 200)])
async def test_a_limit_counts_models_apart_or_together(tmp_path, bedrock_sim, per, second):
    item = {"models": "**", "rate_limits": [{"requests": "1/hour", "per": per}]}
    async with limited(tmp_path, bedrock_sim, {}, item) as gw:
        assert (await gw.post(*CHAT)).status == 200
        assert (await gw.post("/v1/chat/completions", {**CHAT[1], "model": NOVA})).status == second
        gw.url = gw.admin
        assert (await gw.post(*CHAT)).status == 200


async def test_a_call_that_a_quota_refuses_does_not_count_as_a_request(tmp_path, bedrock_sim):
    item = {"rate_limits": [{"requests": "2/hour"}]}
    async with limited(tmp_path, bedrock_sim, quota(PRICE), item) as gw:
        assert [(await gw.post(*CHAT)).status for _ in range(3)] == [200, 429, 429]
        await refill(gw, {"bucket": "team", "amount": "$1"})
        gw.url = gw.running.urls[0]
        assert (await gw.post(*CHAT)).status == 200


async def test_a_call_that_a_quota_refuses_holds_no_tokens(tmp_path, bedrock_sim):
    # each call holds more than the rate has left after the first one, and uses half of it
    item = {"rate_limits": [{"tokens": "38/hour"}]}
    async with limited(tmp_path, bedrock_sim, quota(PRICE), item) as gw:
        assert [(await gw.post(*CHAT)).status for _ in range(3)] == [200, 429, 429]
        assert len(await gw.lines.until("quota.exceeded", 2)) == 2
        await refill(gw, {"bucket": "team", "amount": "$1"})
        gw.url = gw.running.urls[0]
        assert (await gw.post(*CHAT)).status == 200


async def test_a_window_of_the_calendar_is_refused_until_its_border_and_survives(tmp_path, bedrock_sim):
    monthly = quota(2 * PRICE, reset="month", time_zone="Europe/Berlin")
    async with limited(tmp_path, bedrock_sim, monthly) as gw:
        replies = [await gw.post(*CHAT) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        border = Window("month", "Europe/Berlin").after(time_ns())
        wait = int(replies[2].headers["retry-after"])
        assert abs(time() + wait - border / 10**9) < 10
        assert "it is filled at the start of each month (Europe/Berlin)" in await replies[2].text()
        gw.url = gw.admin
        (row,) = (await (await gw.get("/api/quotas")).json())["quotas"]
        assert (row["reset"], row["time_zone"], row["rate"]) == ("month", "Europe/Berlin", None)
        assert row["refills_at"] == rfc3339(border / 10**9)
    async with limited(tmp_path, bedrock_sim, monthly) as gw:
        assert balance(gw) == 0
        assert (await gw.post(*CHAT)).status == 429


CHAINED = {"daily:<user>": {"capacity": usd(PRICE)}, "team": {"capacity": usd(PRICE // 2)}, "last": {"capacity": "$0"}}


@pytest.mark.parametrize(("path", "body"), ALL)
async def test_a_call_is_split_over_a_chain_and_refused_when_all_of_it_is_spent(tmp_path, bedrock_sim, path, body):
    chain = {"models": "**", "quotas": [{"bucket": "daily:<user>", "overdraft": ["team", "last"]}]}
    grants = [{"src": ["*"], "app": {CAP: [{"role": "user"}, chain]}}]
    bedrock_sim.default = TEXT
    providers = {"bedrock": bedrock(bedrock_sim.url)}
    async with gate(tmp_path, providers, grants=grants, server=SERVER, more={"quotas": CHAINED}) as gw:
        gw.book = gw.running.gateway.quotas
        assert [(await gw.post(path, body)).status for _ in range(2)] == [200, 200]
        reply = await gw.post(path, body)
        assert reply.status == 429
        assert 'of its overdraft "team" nor of its overdraft "last"' in said(path, reply)[1]
        records = await gw.calls(3)
        charged = [record["charges_usd"] for record in records if record["status"] == 200]
        first, second = sorted(charged, key=len)
        assert first == {f"daily:{USER}": PRICE / 10**9}
        assert second == {"team": PRICE // 2 / 10**9, "last": (PRICE - PRICE // 2) / 10**9}
        rows = (await (await gw.get("/api/quotas")).json())["quotas"]
        assert {row["bucket"] for row in rows} == {f"daily:{USER}", "team", "last"}


async def test_a_quota_that_rejects_warns_at_four_fifths_and_reports_once(tmp_path, bedrock_sim):
    (tmp_path / "plugins").mkdir()
    seen = tmp_path / "seen.jsonl"
    (tmp_path / "plugins" / "hook.py").write_text(
        "import json, pathlib\napi = 1\ndef seen(record): ...\n"
        f"def seen_event(event):\n    pathlib.Path({str(seen)!r}).write_text(json.dumps(event))\n"
    )
    async with limited(tmp_path, bedrock_sim, quota(10 * PRICE), plugins=tmp_path / "plugins") as gw:
        replies = [await gw.post(*CHAT) for _ in range(11)]
        assert [reply.status for reply in replies] == [200] * 10 + [429]
        notices = [reply.headers.get("x-irisgate-quota") for reply in replies[:10]]
        assert notices == [None] * 8 + ["team; used=0.80", "team; used=0.90"]
        await logged(gw, "quota.nearly_used")
        (line,) = gw.lines.entries("quota.nearly_used")
        assert (line["bucket"], line["used"], line["on_exceed"]) == ("team", 0.8, "reject")
    event = json.loads(seen.read_text())
    assert (event["event"], event["bucket"], event["balance_usd"]) == ("quota.nearly_used", "team", 2 * PRICE / 10**9)


EDITS = [
    ({}, {"capacity": usd(5 * PRICE)}),
    ({"rate": "$0.0001/hour"}, {"rate": "$0.000001/hour"}),
    ({"rate": "$0.0001/hour"}, {"reset": "month"}),
    ({"reset": "day"}, {"capacity": usd(PRICE // 2)}),
]


@pytest.mark.parametrize(("before", "after"), EDITS)
async def test_an_edit_counts_alike_by_reload_and_by_restart(tmp_path, bedrock_sim, before, after):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    old, new = quota(3 * PRICE, **before), {"team": {"capacity": usd(3 * PRICE), **after}}
    balances = []
    for state, restarts in (("a", False), ("b", True)):
        async with limited(tmp_path / state, bedrock_sim, old) as gw:
            assert [(await gw.post(*CHAT)).status for _ in range(2)] == [200, 200]
            if not restarts:
                config = loads(json.dumps({"providers": {}, "quotas": new})).config
                gw.book.configured(config.quotas)
                balances.append(balance(gw))
        async with limited(tmp_path / state, bedrock_sim, new) as gw:
            balances.append(balance(gw))
    # what flows in during the test is a few thousandths of a call
    assert max(balances) - min(balances) < PRICE / 10


@pytest.mark.parametrize(
    ("model", "cost"),
    [
        ("xai.grok-4.7", 0.00286),
        ("us-gov.xai.grok-4.7", 0.003432),
        ("us-gov.openai.gpt-5.4", 0.00528),
        ("us-gov.openai.gpt-5.6-luna", 0.0004224),
        ("us-gov.openai.gpt-5.6-terra", 0.004224),
        ("us-gov.moonshotai.kimi-k3", 0.00594),
        ("eu.anthropic.claude-3-haiku-20240307-v1:0", 0.000375),
    ],
)
async def test_a_call_costs_the_price_of_todays_list(tmp_path, model, cost):
    usage = {"inputTokens": 1000, "outputTokens": 100, "totalTokens": 1100}
    message = {"role": "assistant", "content": [{"text": "hello"}]}
    reply = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 10}}
    async with BedrockSim(keys={KEY}, models={model}) as sim:
        sim.default = scenarios.raw(json.dumps(reply).encode())
        async with gate(tmp_path, {"bedrock": bedrock(sim.url, models=[model], cost_basis="bedrock")}) as gw:
            body = {"messages": [{"role": "user", "content": [{"text": "go"}]}]}
            assert (await gw.post(f"/bedrock/model/{model}/converse", body)).status == 200
            (record,) = await gw.calls()
            assert (record["cost_usd"], record["estimated"]) == (cost, False)
