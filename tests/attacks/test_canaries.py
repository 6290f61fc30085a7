"""Tests that put a secret into every place that may have one, and search for these secrets in all outputs of the
gateway.
"""

import json

import pytest
from aiohttp import web

from gateway.call.candidate import Candidate
from gateway.call.chain import Attempt
from gateway.config.document.secrets import Secret
from gateway.config.load import load
from gateway.config.model import Provider
from gateway.contract.capabilities import capabilities
from gateway.contract.flag import HttpRequest, Route, Target
from gateway.contract.losses import Way
from gateway.process.command_line import main
from gateway.upstream.catalog import Offer
from tests.helpers.gateway import CAP, HAIKU, NOVA, SONNET
from tests.helpers.hostile_http import CHAT, CONVERSE
from tests.helpers.own_plugins import discover_own
from tests.helpers.providers import provider
from tests.web.admin.conftest import from_file

CANARIES = {
    place: f"canary-{number}-0123456789abcdef"
    for number, place in enumerate(
        ("literal", "environment", "file", "provider header", "grant header", "client", "hook", "comment", "last year")
    )
}
PAGES = (
    "/", "/ui/", "/ui/sessions", "/ui/sessions/nobodys", "/api/sessions", "/api/calls", "/api/providers", "/api/whoami",
    f"/api/explain?model={HAIKU}", "/api/explain?model=nobodys", "/v1/models", "/inference-profiles", "/metrics",
    "/healthz", "/readyz", "/aperture/config", "/aperture/openapi.json",
)  # fmt: skip

ABSENT = frozenset({"/ui/sessions/nobodys"})
"""Paths of pages that do not exist, so that they are answered with 404."""


def text(url, echo):
    """Return a configuration with three providers: one works, one is down, and one refuses the key and repeats it."""
    common = {"compatibility": {"bedrock_converse": True}, "cost_basis": "bedrock-us"}
    providers = {
        "works": {
            **common, "baseurl": url, "models": [NOVA], "apikey": CANARIES["literal"],
            "add_headers": [f"X-Team-Key: {CANARIES['provider header']}"],
        },
        "away": {**common, "baseurl": "http://127.0.0.1:9", "models": [HAIKU], "apikey": "env:CANARY_KEY"},
        "echo": {**common, "baseurl": echo, "models": [SONNET], "apikey": "file:canary.key", "auth_mode": "passthrough"},
    }  # fmt: skip
    capabilities = [
        {"role": "admin"}, {"models": "**", "add_headers": [f"X-Grant-Key: {CANARIES['grant header']}"]},
        {"read_metrics": True},
    ]  # fmt: skip
    document = {
        "providers": providers,
        "grants": [{"src": ["*"], "app": {CAP: capabilities}}],
        "hooks": {"audit": {"url": "https://hooks.example.com/seen", "apikey": CANARIES["hook"]}},
        "server": {"listeners": [{"listen": "127.0.0.1:0"}]},
    }
    comments = f'// {CANARIES["literal"]} since May, {CANARIES["comment"]}\n// "apikey": "{CANARIES["last year"]}"\n'
    return comments + json.dumps(document, indent=2)


async def refuse_with_headers(request):
    """Refuse a request with a message that repeats the request's headers, as some providers do."""
    text = json.dumps(dict(request.headers))
    return web.json_response({"message": f"not allowed: {text}"}, status=403, headers={"x-amzn-errortype": "A"})


@pytest.fixture
async def served(tmp_path, bedrock_sim, monkeypatch):
    bedrock_sim.keys = None
    monkeypatch.setenv("CANARY_KEY", CANARIES["environment"])
    (tmp_path / "canary.key").write_text(CANARIES["file"] + "\n")
    (tmp_path / "state").mkdir()
    path = tmp_path / "config.hujson"
    async with provider(refuse_with_headers) as echo:
        path.write_text(text(bedrock_sim.url, echo))
        async with from_file(path) as running:
            yield running


def found_in(data):
    """Return the names of the secrets in `CANARIES` that occur in `data`.

    The secret in a comment is ignored, because no provider uses it.
    """
    return [place for place, canary in CANARIES.items() if canary.encode() in data and place != "comment"]


async def everything_is_asked(served):
    own = {"Authorization": f"Bearer {CANARIES['client']}", "x-api-key": CANARIES["client"]}
    heard = []
    for model in (NOVA, HAIKU, SONNET, "nobodys"):
        for stream in (False, True):
            for headers in ({}, own):
                for path, body in (
                    ("/v1/chat/completions", {**CHAT, "model": model, "stream": stream}),
                    ("/v1/messages", {**CHAT, "model": model, "stream": stream, "max_tokens": 5}),
                    (f"/bedrock/model/{model}/converse{'-stream' * stream}", CONVERSE),
                ):
                    reply = await served.post(path, body, headers=headers)
                    heard.append(reply.body + repr(reply.headers).encode())
    await served.running.gateway.follower.flush()
    for page in PAGES:
        reply = await served.get(page)
        # aiohttp's client follows the redirect from "/" to the first page
        assert reply.status == (404 if page in ABSENT else 200), (page, reply.body)
        heard.append(reply.body + repr(reply.headers).encode())
    return b"\n".join(heard)


async def test_no_secret_is_in_any_reply_log_line_page_metric_or_record(served, bedrock_sim):
    heard = await everything_is_asked(served)
    sent = bedrock_sim.requests[0].headers
    secrets = (sent["authorization"], sent["x-team-key"], sent["x-grant-key"])
    assert [place for place in ("literal", "provider header", "grant header") if CANARIES[place] in "".join(secrets)] == [
        "literal", "provider header", "grant header",
    ]  # fmt: skip
    await served.calls(48)
    assert b"not allowed" in heard
    assert found_in(heard) == []
    assert found_in(served.lines.data) == []
    state = served.path.parent / "state"
    files = {path.name: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert any(NOVA.encode() in data for data in files.values())
    assert [name for name, data in files.items() if found_in(data)] == []


async def test_no_secret_is_in_what_is_said_of_a_configuration_that_is_refused(served):
    sound = served.path.read_text()
    secret = CANARIES["literal"]
    broken = [
        sound.replace('"apikey": "' + secret, '"baseurl": "' + secret, 1),
        sound.replace('"apikey": "' + secret, '"authorization": "' + secret, 1),
        sound.replace(f'"{NOVA}"', f'["{secret}"]', 1),
        sound.replace('"works": {', f'"{secret} of ours": {{', 1),
        sound.replace(f'"{secret}"', f'"{secret}', 1),
        sound.replace(f'"{secret}"', secret, 1),
        sound.replace(f'"{secret}"', f'"{secret}\\n"', 1),
        sound.replace(f'"{secret}"', f'["{secret}"]', 1),
        sound + secret,
        sound[: sound.index(secret) + len(secret)],
    ]
    for other in broken:
        assert other != sound
        await served.validate(other)
        response, _ = await served.put(other)
        assert response.status in {400, 422}, other
        served.path.write_text(other)
        await served.running.gateway.reloader.reload()
        await served.config()
        await served.ask("GET", "/readyz")
        for page in ("/ui/", "/aperture/config"):
            served.heard.append((await served.get(page)).body)
        served.path.write_text(sound)
        await served.running.gateway.reloader.reload()
    await served.log_is_written()
    assert found_in(b"".join(served.heard)) == []
    assert found_in(served.lines.data) == []


def test_no_secret_is_in_what_a_check_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CANARY_KEY", CANARIES["environment"])
    (tmp_path / "canary.key").write_text(CANARIES["file"])
    path = tmp_path / "config.hujson"
    sound = text("http://127.0.0.1:9", "http://127.0.0.1:9")
    secret = CANARIES["literal"]
    for written in (
        sound,
        sound.replace('"apikey": "' + secret, '"baseurl": "' + secret, 1),
        sound.replace('"apikey": "' + secret, '"authorization": "' + secret, 1),
        sound.replace(f'"{NOVA}"', f'["{secret}"]', 1),
        sound.replace(f'"{secret}"', secret, 1),
        sound.replace(f'"X-Team-Key: {CANARIES["provider header"]}"', f'"{CANARIES["provider header"]}"', 1),
        sound.replace(f'"X-Grant-Key: {CANARIES["grant header"]}"', f'"X-Grant-Key: {CANARIES["grant header"]}\\n"', 1),
        sound.replace(f'"apikey": "{CANARIES["hook"]}"', f'"apikey": ["{CANARIES["hook"]}"]', 1),
    ):
        path.write_text(written)
        main(["check", str(path)])
        main(["explain", "--config", str(path), "--as", "(loopback)", "--model", NOVA])
        output = capsys.readouterr()
        assert output.out + output.err
        assert found_in((output.out + output.err).encode()) == []


async def test_no_secret_is_in_the_repr_of_a_value_that_holds_it(tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY_KEY", CANARIES["environment"])
    (tmp_path / "canary.key").write_text(CANARIES["file"])
    path = tmp_path / "config.hujson"
    path.write_text(text("http://127.0.0.1:9", "http://127.0.0.1:9"))
    config = load(path, plugins=discover_own().known).config
    values = [config, *config.providers.values(), *config.grants]
    values += [provider.apikey for provider in config.providers.values()]
    values += [capability for grant in config.grants for capability in grant.capabilities]
    assert found_in("".join(f"{value!r} {value}" for value in values).encode()) == []


def test_no_secret_is_in_the_repr_of_a_call_that_brings_or_shows_it():
    route = Route("POST", "/v1/messages", "generate")
    headers = {"authorization": f"Bearer {CANARIES['client']}"}
    request = HttpRequest(route, "/v1/messages", "", headers, {}, json.dumps({**CHAT, "max_tokens": 5}).encode())
    flags = discover_own().flags
    flag = flags["anthropic_messages"]
    provider = Provider("p", "http://127.0.0.1:9", (HAIKU,), Secret(CANARIES["literal"]))
    offer = Offer(provider, HAIKU, capabilities(HAIKU), HAIKU)
    target = Target("p", flag.name, HAIKU, "anthropic_messages", offer.caps)
    ask = flag.parse(request)
    tried = Attempt(Candidate(offer, flag, target, Way.NATIVE), ask, {"x-api-key": CANARIES["literal"]})
    assert found_in("".join(f"{value!r} {value}" for value in (request, ask, tried, offer, target)).encode()) == []
