"""Tests of providers with `"models": "discover"`: the start, changes, failures, reloads and restarts, over HTTP."""

import asyncio
import json
import re

import pytest

from gateway.config.load import load
from gateway.process import model_refresh
from gateway.process.reload import Reloader
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.bedrock_lists import model_arn
from gateway.testkit.gemini import GeminiSim
from gateway.testkit.openai import OpenAISim
from gateway.upstream import model_search
from gateway.upstream.discovered_models import FILE
from tests.helpers.gateway import KEY, NOVA, bedrock, built_in, gate
from tests.helpers.waiting import eventually

LITE = "amazon.nova-lite-v1:0"
MICRO = "amazon.nova-micro-v1:0"
REGIONS = ("us-east-1", "us-west-2")


def discovering(upstream, **more):
    return {"bedrock": {**bedrock(upstream.url, **more), "models": "discover"}}


def filled(upstream):
    """Add models and inference profiles to the simulated AWS account. Return the ARN of the one application profile."""
    upstream.listing.add_model(LITE)
    upstream.listing.add_model("amazon.titan-embed-text-v2:0", output=["EMBEDDING"])
    upstream.listing.add_model("amazon.nova-premier-v1:0", inference=["PROVISIONED"])
    arns = [model_arn(LITE, region) for region in REGIONS]
    upstream.listing.add_profile(NOVA, arns)
    upstream.listing.add_profile("us.amazon.titan-embed-text-v2:0", [model_arn("amazon.titan-embed-text-v2:0")])
    return upstream.listing.add_profile("team", arns, kind="APPLICATION")


@pytest.fixture
async def upstream():
    async with BedrockSim({KEY}) as simulator:
        yield simulator


async def listed(gateway):
    """Return the models of the provider as a caller sees them."""
    providers = await (await gateway.get("/api/providers")).json()
    return providers[0]["models"] if providers else []


async def until(gateway, names):
    async def look():
        return set(await listed(gateway)) == set(names)

    await eventually(look)


async def ask(gateway, model):
    body = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    return await gateway.post(f"/bedrock/model/{model}/converse", body)


async def test_models_of_the_account_are_offered_and_served(tmp_path, upstream):
    profile = filled(upstream)
    async with gate(tmp_path, discovering(upstream)) as gateway:
        await until(gateway, [LITE, NOVA, profile])
        assert (await ask(gateway, NOVA)).status == 200
        assert (await ask(gateway, "us.amazon.titan-embed-text-v2:0")).status == 404
        [change] = await gateway.lines.until("models.changed")
    assert (change["provider"], change["models"], change["removed"]) == ("bedrock", 3, [])
    assert change["added"] == sorted([LITE, NOVA, profile])


async def test_an_application_profile_costs_what_its_profile_costs(tmp_path, upstream):
    profile = filled(upstream)
    upstream.profiles[profile] = NOVA
    async with gate(tmp_path, discovering(upstream)) as gateway:
        await until(gateway, [LITE, NOVA, profile])
        for model in (NOVA, profile.replace("/", "%2F")):
            assert (await ask(gateway, model)).status == 200
        costs = [record["cost_usd"] for record in await gateway.calls(2)]
        offer = gateway.running.gateway.runtime.catalog.find(profile)[0]
    assert offer.base == NOVA
    assert costs[0] == costs[1] is not None


async def test_every_page_is_read(tmp_path, upstream):
    upstream.listing.per_page = 2
    names = [f"us.amazon.nova-lite-v{number}:0" for number in range(7)]
    for name in names:
        upstream.listing.add_profile(name, [model_arn(LITE)])
    async with gate(tmp_path, discovering(upstream)) as gateway:
        await until(gateway, names)
    assert len([seen for seen in upstream.requests if "nextToken" in seen.query]) == 3


async def test_a_model_that_vanishes_is_taken_away(tmp_path, upstream, monkeypatch):
    monkeypatch.setattr(model_refresh, "REFRESH_SECONDS", 0.1)
    upstream.listing.add_model(LITE)
    upstream.listing.add_model(MICRO)
    async with gate(tmp_path, discovering(upstream)) as gateway:
        await until(gateway, [LITE, MICRO])
        upstream.listing.models.pop()
        await until(gateway, [LITE])
        assert (await ask(gateway, MICRO)).status == 404
        changes = await gateway.lines.until("models.changed", 2)
    assert (changes[1]["added"], changes[1]["removed"]) == ([], [MICRO])


async def test_a_failure_keeps_the_list_and_is_logged_once(tmp_path, upstream, monkeypatch):
    monkeypatch.setattr(model_refresh, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr(model_refresh, "RETRY_SECONDS", 0.05)
    upstream.listing.add_model(LITE)
    models = upstream.listing.models
    async with gate(tmp_path, discovering(upstream)) as gateway:
        await until(gateway, [LITE])
        upstream.listing.models = "nonsense"
        [failure] = await gateway.lines.until("models.list_failed")
        sent = len(upstream.requests)
        await eventually(lambda: len(upstream.requests) > sent + 3)
        assert await listed(gateway) == [LITE]
        status, _ = await gateway.readiness()
        upstream.listing.models = models
        await gateway.lines.until("models.listed")
        await gateway.log_is_written()
        assert len(gateway.lines.entries("models.list_failed")) == 1
    assert status == 200
    assert (failure["provider"], failure["kept"]) == ("bedrock", 1)


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ([], "listed no models"),
        ("nonsense", "the reply to GET /foundation-models has no list of objects in modelSummaries"),
        (["nonsense"], "the reply to GET /foundation-models has no list of objects in modelSummaries"),
    ],
)
async def test_what_is_no_list_is_named(tmp_path, upstream, models, reason):
    upstream.listing.models = models
    async with gate(tmp_path, discovering(upstream)) as gateway:
        [failure] = await gateway.lines.until("models.list_failed")
        assert await listed(gateway) == []
    assert (failure["reason"], failure["kept"]) == (reason, 0)


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("MAX_MODELS", 2, "listed more than 2 models; name those that are needed"),
        ("MAX_BYTES", 100, "bedrock answered 200 with more than 100 bytes"),
    ],
)
async def test_a_list_beyond_a_limit_is_a_failure(tmp_path, upstream, monkeypatch, limit, value, reason):
    monkeypatch.setattr(model_search, limit, value)
    for number in range(3):
        upstream.listing.add_model(f"amazon.nova-{number}")
    async with gate(tmp_path, discovering(upstream)) as gateway:
        [failure] = await gateway.lines.until("models.list_failed")
        assert await listed(gateway) == []
    assert failure["reason"] == reason


async def test_pages_without_end_are_given_up(tmp_path, upstream, monkeypatch):
    monkeypatch.setattr(model_search, "MAX_REQUESTS", 5)
    upstream.listing.per_page = 1
    for number in range(9):
        upstream.listing.add_profile(f"us.amazon.nova-{number}", [model_arn(LITE)])
    async with gate(tmp_path, discovering(upstream)) as gateway:
        [failure] = await gateway.lines.until("models.list_failed")
    assert failure["reason"] == "gave no complete list within 5 pages"
    assert len(upstream.requests) == 5


async def test_a_restart_serves_the_kept_list_before_the_provider_answers(tmp_path, upstream):
    upstream.listing.add_model(LITE)
    async with gate(tmp_path, discovering(upstream)) as gateway:
        await until(gateway, [LITE])
        await eventually((tmp_path / FILE).exists)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    upstream.keys = {"another key"}
    async with gate(tmp_path, discovering(upstream)) as gateway:
        assert await listed(gateway) == [LITE]
        await gateway.lines.until("models.list_failed")
        assert await listed(gateway) == [LITE]


async def test_a_kept_list_is_not_used_for_another_address(tmp_path, upstream):
    upstream.listing.add_model(LITE)
    async with gate(tmp_path, discovering(upstream)) as gateway:
        await until(gateway, [LITE])
        await eventually((tmp_path / FILE).exists)
    async with BedrockSim(set()) as other, gate(tmp_path, discovering(other)) as gateway:
        assert await listed(gateway) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"bedrock": 7}', b"\xff"])
async def test_a_damaged_file_counts_as_missing(tmp_path, upstream, content):
    (tmp_path / FILE).write_bytes(content)
    upstream.listing.add_model(LITE)
    async with gate(tmp_path, discovering(upstream)) as gateway:
        await until(gateway, [LITE])


async def test_a_reload_asks_at_once_and_keeps_the_known_models(tmp_path, upstream):
    upstream.listing.add_model(LITE)
    state = tmp_path / "state"
    state.mkdir()
    async with gate(state, discovering(upstream)) as gateway:
        await until(gateway, [LITE])
        reloader, path = file_reloader(tmp_path, gateway, upstream)
        upstream.listing.add_model(MICRO)
        path.write_text(path.read_text().replace('"preference": 0', '"preference": 1'))
        await reloader.reload()
        await until(gateway, [LITE, MICRO])
        assert gateway.running.gateway.runtime.catalog.find(LITE)[0].provider.preference == 1


async def test_base_models_of_the_configuration_come_first(tmp_path, upstream):
    profile = filled(upstream)
    async with gate(tmp_path, discovering(upstream, base_models={profile: MICRO})) as gateway:
        await until(gateway, [LITE, NOVA, profile])
        offer = gateway.running.gateway.runtime.catalog.find(profile)[0]
    assert offer.base == MICRO


def file_reloader(folder, gateway, upstream):
    text = {
        "providers": discovering(upstream, preference=0),
        "grants": [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin", "models": "**"}]}}],
    }
    path = folder / "config.hujson"
    path.write_text(json.dumps(text))
    reloader = Reloader(path, gateway.running.gateway, None, load(path, plugins=built_in().known))
    return reloader, path


async def test_models_of_anthropic_are_listed_in_pages(tmp_path):
    async with AnthropicSim({KEY}) as upstream:
        upstream.listed, upstream.per_page = [f"claude-{number}" for number in range(5)], 2
        async with gate(tmp_path, provider_of(upstream, "anthropic_messages", "x-api-key")) as gateway:
            await until(gateway, upstream.listed)
        assert [seen.query for seen in upstream.requests] == [
            "limit=1000", "limit=1000&after_id=claude-1", "limit=1000&after_id=claude-3",
        ]  # fmt: skip


@pytest.mark.parametrize("flag", ["openai_chat", "openai_responses"])
@pytest.mark.parametrize("path", ["", "/v1"])
async def test_models_of_openai_are_listed(tmp_path, flag, path):
    async with OpenAISim({KEY}) as upstream:
        upstream.listed = ["gpt-5", "local/some model"]
        async with gate(tmp_path, provider_of(upstream, flag, "bearer", path)) as gateway:
            await until(gateway, upstream.listed)
        assert [seen.path for seen in upstream.requests] == ["/v1/models"]


async def test_models_of_gemini_are_listed_in_pages(tmp_path):
    async with GeminiSim({KEY}) as upstream:
        upstream.listed = {"gemini-a": ["generateContent"], "embed": ["embedContent"], "gemini-b": ["generateContent"]}
        upstream.per_page = 2
        async with gate(tmp_path, provider_of(upstream, "gemini_generate_content", "x-goog-api-key")) as gateway:
            await until(gateway, ["gemini-a", "gemini-b"])
        assert [seen.query for seen in upstream.requests] == ["pageSize=1000", "pageSize=1000&pageToken=2"]


async def test_the_page_shows_admins_what_is_listed_and_what_failed(tmp_path, upstream, monkeypatch):
    monkeypatch.setattr(model_refresh, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr(model_refresh, "RETRY_SECONDS", 0.05)
    async with gate(tmp_path, discovering(upstream)) as gateway:
        assert "The provider has not listed its models yet." in await shown(gateway)
        upstream.listing.add_model(LITE)
        await until(gateway, [LITE])
        assert "1 added, 0 removed" in await shown(gateway)
        upstream.listing.models = "<b>nonsense</b>"
        await eventually(lambda: gateway.running.gateway.models.failures)
        assert "The provider did not list its models: the reply to GET /foundation-models" in await shown(gateway)


async def shown(gateway):
    """Return the text of the page of providers, in one line and without HTML tags."""
    html = await (await gateway.get("/ui/providers")).text()
    return " ".join(re.sub(r"<[^>]*>", "", html).split())


async def test_a_refused_key_is_tried_once(tmp_path, upstream):
    upstream.keys = {"another key"}
    async with gate(tmp_path, discovering(upstream)) as gateway:
        [failure] = await gateway.lines.until("models.list_failed")
    assert failure["reason"].startswith("GET /foundation-models was answered 403: ")
    assert KEY not in json.dumps(failure)
    assert len(upstream.requests) == 1


SECOND = "bedrock-key-of-the-second-account"


def pooled(upstream, **keys):
    made = discovering(upstream, apikeys=keys)
    del made["bedrock"]["apikey"]
    return made


def refuses(monkeypatch, upstream, keys, *refusal):
    """Let the simulated provider refuse requests with these keys."""
    respond = upstream.respond

    async def answer(seen, request):
        if seen.headers["authorization"].removeprefix("Bearer ") in keys:
            raise upstream.failure(*refusal)
        return await respond(seen, request)

    monkeypatch.setattr(upstream, "respond", answer)


@pytest.mark.parametrize("name", ["ThrottlingException", "AccessDeniedException", "UnrecognizedClientException"])
async def test_a_second_key_lists_what_the_first_is_refused(tmp_path, upstream, monkeypatch, name):
    upstream.keys = None
    refuses(monkeypatch, upstream, {KEY}, name, f"no list for {KEY}")
    for number in range(3):
        upstream.listing.add_profile(f"us.amazon.nova-{number}", [model_arn(LITE)])
    upstream.listing.per_page = 1
    async with gate(tmp_path, pooled(upstream, a=KEY, b=SECOND)) as gateway:
        await until(gateway, [f"us.amazon.nova-{number}" for number in range(3)])
        [line] = await gateway.lines.until("models.key_failed")
        assert gateway.running.gateway.models.failures == {}
        assert KEY not in gateway.lines.data.decode()
    assert (line["provider"], line["key"], line["used"]) == ("bedrock", "a", "b")
    assert f"{name}: no list for [key]" in line["reason"]
    sent = [seen.headers["authorization"] for seen in upstream.requests]
    assert sent.count(f"Bearer {KEY}") == 1
    assert sent.count(f"Bearer {SECOND}") == len(sent) - 1


async def test_a_page_that_is_throttled_begins_the_search_anew_with_the_next_key(tmp_path, upstream, monkeypatch):
    upstream.keys, upstream.listing.per_page = None, 1
    names = [f"us.amazon.nova-{number}" for number in range(3)]
    for name in names:
        upstream.listing.add_profile(name, [model_arn(LITE)])
    respond = upstream.respond

    async def answer(seen, request):
        if "nextToken" in seen.query and seen.headers["authorization"] == f"Bearer {KEY}":
            raise upstream.failure("ThrottlingException", "slow down")
        return await respond(seen, request)

    monkeypatch.setattr(upstream, "respond", answer)
    async with gate(tmp_path, pooled(upstream, a=KEY, b=SECOND)) as gateway:
        await until(gateway, names)


async def test_if_no_key_gives_a_list_the_reason_names_each(tmp_path, upstream):
    upstream.keys = {"another key"}
    async with gate(tmp_path, pooled(upstream, a=KEY, b=SECOND)) as gateway:
        [failure] = await gateway.lines.until("models.list_failed")
        assert not gateway.lines.entries("models.key_failed")
        assert KEY not in gateway.lines.data.decode()
    assert failure["reason"].startswith(
        "gave no list for any of its 2 keys: a: GET /foundation-models was answered 403"
    )
    assert "; b: GET /foundation-models was answered 403" in failure["reason"]
    assert len(upstream.requests) == 2


async def test_a_fault_of_the_list_is_no_fault_of_the_key(tmp_path, upstream):
    upstream.keys, upstream.listing.models = None, "nonsense"
    async with gate(tmp_path, pooled(upstream, a=KEY, b=SECOND)) as gateway:
        await gateway.lines.until("models.list_failed")
    assert {seen.headers["authorization"] for seen in upstream.requests} == {f"Bearer {KEY}"}


async def test_a_program_that_fails_leaves_the_search_to_the_next_key(tmp_path, upstream, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the folder of a configuration without a file
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "broken").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "helpers" / "token").write_text(f"#!/bin/sh\necho {KEY}\n")
    for program in (tmp_path / "helpers").iterdir():
        program.chmod(0o755)
    upstream.listing.add_model(LITE)
    async with gate(tmp_path / "state", pooled(upstream, a="exec:broken", b="exec:token")) as gateway:
        await until(gateway, [LITE])
        [line] = await gateway.lines.until("models.key_failed")
    assert line["reason"].startswith("there is no valid credential: broken ended with status 3; run the program")


FLAG = """
from gateway.contract import json_api
from gateway.contract.flag import DiscoveredModel, ModelSearch, Route, UpstreamRequest
api = 1
dialects = ("acme_text",)
routes = (Route("POST", "/acme/v1/text", "generate"),)
def build(request, target, drop): return UpstreamRequest("POST", "/", b"")
def meter(request, target, head): return None
def discover_models(host): return ModelSearch(pages())
def pages():
"""


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("yield 7", "plugin acme_text failed in discover_models: returned int; UpstreamRequest is expected"),
        (
            "yield UpstreamRequest('GET', '@evil.example/', b'')",
            "plugin acme_text failed in discover_models: returned ",
        ),
        ("yield from (); return 7", "plugin acme_text failed in discover_models: returned int; a sequence of "),
        ("yield from (); return ['m']", "plugin acme_text failed in discover_models: returned str; DiscoveredModel "),
        ("yield from (); raise SystemExit", "plugin acme_text failed in discover_models: SystemExit"),
        ("yield UpstreamRequest('GET', '/none', b'')", "GET /none was answered 404: "),
    ],
)
async def test_a_plugin_that_fails_is_named(tmp_path, lines, reason):
    async with OpenAISim({KEY}) as upstream, acme(tmp_path, upstream, lines) as gateway:
        [failure] = await gateway.lines.until("models.list_failed")
        assert (await gateway.readiness())[0] == 200
    assert failure["reason"].startswith(reason)


class Silent(OpenAISim):
    async def respond(self, seen, request):
        await asyncio.sleep(600)


async def test_a_search_that_cannot_be_closed_holds_up_no_stop(tmp_path):
    lines = """
    try:
        yield UpstreamRequest('GET', '/v1/models', b'')
    except GeneratorExit:
        yield  # which a generator may not do
    """
    async with Silent({KEY}) as upstream, asyncio.timeout(20):
        async with acme(tmp_path, upstream, lines) as gateway:
            await eventually(lambda: upstream.requests)
        assert gateway.running.gateway.draining


def acme(folder, upstream, lines):
    """Return a gateway with a plugin whose function `discover_models` has the body `lines`."""
    plugins, state = folder / "plugins", folder / "state"
    plugins.mkdir()
    state.mkdir()
    (plugins / "acme_text.py").write_text(FLAG + "    " + lines.lstrip())
    return gate(state, provider_of(upstream, "acme_text", "bearer"), plugins=plugins)


def provider_of(upstream, flag, authorization, path=""):
    return {
        "other": {
            "baseurl": upstream.url + path,
            "apikey": KEY,
            "authorization": authorization,
            "models": "discover",
            "compatibility": {flag: True},
        }
    }
