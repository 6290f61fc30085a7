"""Tests of keys and network addresses that clients send. The gateway must neither pass them to a provider nor store
them.
"""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.telemetry import throttle
from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.openai import OpenAISim
from tests.helpers.gateway import HAIKU, KEY, bedrock, gate
from tests.helpers.hostile_http import (
    CHAT,
    CLAUDE,
    CONVERSE,
    MESSAGES,
    connected,
    crashes,
    post,
    request,
    text_of,
)
from tests.helpers.providers import provider

SECRET = "canary-of-a-client"
SIGNATURE = (
    f"AWS4-HMAC-SHA256 Credential={SECRET}/20261123/us-east-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, "
    f"Signature={SECRET}"
)
KEYS = [
    f"Authorization: Bearer {SECRET}",
    f"x-api-key: {SECRET}",
    f"api-key: {SECRET}",
    f"x-goog-api-key: {SECRET}",
    f"anthropic-api-key: {SECRET}",
    f"anthropic-auth-token: {SECRET}",
    f"OpenAI-Organization: {SECRET}",
    f"Cookie: session={SECRET}",
    f"Proxy-Authorization: Basic {SECRET}",
    f"X-Amz-Security-Token: {SECRET}",
    "X-Amz-Date: 20261123T000000Z",
    f"X-Amz-Content-Sha256: {SECRET}",
    f"X-Litellm-Api-Key: {SECRET}",
    f"X-Portkey-Api-Key: {SECRET}",
    f"Helicone-Auth: Bearer {SECRET}",
]
SIGNED = [f"Authorization: {SIGNATURE}", f"X-Amz-Security-Token: {SECRET}", "X-Amz-Date: 20261123T000000Z"]
TWICE = ["Authorization: Bearer first", f"Authorization: Bearer {SECRET}", f"authorization: {SECRET}"]
QUERY = "&".join(
    f"{name}={SECRET}"
    for name in (
        "api_key",
        "key",
        "apikey",
        "%6Bey",
        "access_token",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "token",
    )
)
BODY_KEYS = dict.fromkeys(
    ("api_key", "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "azure_ad_token"), SECRET
)
WAYS = {
    "chat": ("/v1/chat/completions", {**CHAT, "model": "m"}),
    "messages": ("/v1/messages", {**MESSAGES, "model": "claude-haiku-4-5"}),
    "converse": (f"/bedrock/model/{HAIKU}/converse", CONVERSE),
    "invoke": (f"/bedrock/model/{HAIKU}/invoke", CLAUDE),
    "chat to Bedrock": ("/v1/chat/completions", CHAT),
    "chat to Anthropic": ("/v1/chat/completions", {**CHAT, "model": "claude-haiku-4-5"}),
    "messages to Bedrock": ("/v1/messages", MESSAGES),
}


class Providers:
    """One simulated provider of each kind, and all requests that they have received."""

    def __init__(self, *simulators):
        self.bedrock, self.anthropic, self.openai = simulators

    def take(self):
        """Return the requests since the last call of this method."""
        seen = []
        for simulated in (self.bedrock, self.anthropic, self.openai):
            seen += simulated.requests
            simulated.requests.clear()
        return seen


@pytest.fixture
async def providers():
    async with BedrockSim(keys={KEY}) as first, AnthropicSim() as second, OpenAISim() as third:
        yield Providers(first, second, third)


@asynccontextmanager
async def gated(state, providers, *, server=None, **more):
    entries = {
        "b": bedrock(providers.bedrock.url, models=[HAIKU], **more),
        "a": {
            "baseurl": providers.anthropic.url, "apikey": KEY, "authorization": "x-api-key",
            "models": ["claude-haiku-4-5"], "compatibility": {"anthropic_messages": True}, **more,
        },
        "o": {"baseurl": providers.openai.url, "apikey": KEY, "models": ["m"], **more},
    }  # fmt: skip
    async with gate(state, entries, server=server) as running:
        yield running


async def exchanged(running, data):
    raw = await connected(running)
    raw.writer.write(data)
    reply = await raw.reply()
    await raw.close()
    return reply


@pytest.mark.parametrize("mode", ["override", "none"])
async def test_no_credential_of_a_client_reaches_a_provider_or_stays_here(tmp_path, providers, mode):
    async with gated(tmp_path, providers, auth_mode=mode) as running:
        for name, (path, body) in WAYS.items():
            for headers, query, members in (
                (KEYS, "", {}), (SIGNED, "", {}), (TWICE, "", {}), ([], f"?{QUERY}", {}), ([], "", BODY_KEYS),
            ):  # fmt: skip
                status, _, answer = await exchanged(running, post(path + query, {**body, **members}, *headers))
                seen = providers.take()
                assert [SECRET in text_of(one) for one in seen] == [False], (name, status, answer, seen)
                credentials = {
                    header for one in seen for header in ("authorization", "x-api-key") if header in one.headers
                }
                assert len(credentials) == (mode == "override"), name
                assert SECRET.encode() not in answer, name
        await running.calls(5 * len(WAYS))
        await running.running.gateway.follower.flush()
        for page in ("/ui/", "/ui/sessions", "/api/sessions", "/api/calls", "/metrics", "/api/providers"):
            assert SECRET not in await (await running.get(page)).text(), page
        assert SECRET.encode() not in running.lines.data
        assert crashes(running) == []
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert [name for name, data in files.items() if SECRET.encode() in data] == []
    assert any(HAIKU.encode() in data for data in files.values())


async def test_a_client_is_told_that_its_own_key_in_a_body_was_left_out(tmp_path, providers):
    async with gated(tmp_path, providers) as running:
        path, body = WAYS["chat"]
        _, headers, _ = await exchanged(running, post(path, {**body, "api_key": SECRET}))
        assert headers["x-irisgate-dropped"] == "/api_key"
        assert providers.take()[0].json == body


async def test_a_query_that_an_api_needs_goes_on(tmp_path, providers):
    async with gated(tmp_path, providers) as running:
        for name, query, sends in (
            ("messages", "beta=true&key=x", "beta=true"),
            ("chat", "key=x&api-version=preview&%61pi-key=x", "api-version=preview"),
            ("converse", "key=x", ""),
            ("chat to Bedrock", "beta=true&api-version=1", ""),
        ):
            path, body = WAYS[name]
            await exchanged(running, post(f"{path}?{query}", body))
            assert [seen.query for seen in providers.take()] == [sends], name


async def test_bytes_that_are_no_text_in_a_header_that_goes_on_crash_nothing(tmp_path, providers):
    names = ("accept", "anthropic-beta", "anthropic-version", "x-amzn-bedrock-trace", "authorization", "x-api-key")
    async with gated(tmp_path, providers, auth_mode="passthrough") as running:
        for path, body in WAYS.values():
            for name in names:
                status, _, answer = await exchanged(running, post(path, body, name.encode() + b": \xff\xfe"))
                assert status in {200, 400, 401, 403}, (path, name, answer)
        assert crashes(running) == []


PLACES = [
    "X-Base-URL", "X-Portkey-Custom-Host", "X-Upstream", "X-Upstream-Host", "X-Target-URL", "X-Api-Base", "X-Endpoint",
    "X-Forwarded-Host", "X-Forwarded-Server", "X-Original-Host", "X-Host", "X-HTTP-Host-Override", "X-Rewrite-URL",
    "Helicone-Target-URL", "Helicone-OpenAI-Api-Base", "X-Provider", "X-Portkey-Provider", "X-Portkey-Config",
    "Api-Base", "Base-URL", "X-Amz-Region", "X-Region", "X-Aws-Region", "OpenAI-Base-URL", "Forwarded",
]  # fmt: skip
MEMBERS = ["api_base", "base_url", "aws_bedrock_runtime_endpoint", "aws_sts_endpoint"]


async def test_nothing_that_a_client_says_chooses_where_a_call_goes(tmp_path, providers):
    reached = []

    async def note(reader, writer):
        reached.append(await reader.read(10))
        writer.close()

    listening = await asyncio.start_server(note, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    listener = {"listen": "127.0.0.1:0", "identity": "static", "login": "robot"}
    async with gated(tmp_path, providers, server={"listeners": [listener]}) as running:
        for name, (path, body) in WAYS.items():
            for headers, query, members in (
                ([f"{place}: {url}" for place in PLACES], "", {}),
                ([f"{place}: 127.0.0.1:{port}" for place in PLACES], "", {}),
                ([], f"?base_url={url}&api_base={url}&host=127.0.0.1:{port}&region=evil", {}),
                ([], "", dict.fromkeys(MEMBERS, url) | {"aws_region_name": "x.evil.example/"}),
            ):
                await exchanged(running, post(path + query, {**body, **members}, *headers))
                (seen,) = providers.take()
                assert str(port) not in text_of(seen), name
                assert "evil" not in text_of(seen), name
    listening.close()
    await listening.wait_closed()
    assert reached == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("mode", ["override", "passthrough"])
async def test_a_redirect_by_a_provider_is_not_followed_and_the_key_stays(tmp_path, providers, status, mode):
    async def elsewhere(incoming):
        # a server that leaves a body unread resets the connection, sometimes before the client has read the reply
        await incoming.read()
        location = f"{providers.bedrock.url}{incoming.path}"
        return web.Response(status=status, headers={"location": location, "refresh": f"0;url={location}"})

    async with (
        provider(elsewhere) as url,
        gate(tmp_path, {"b": bedrock(url, models=[HAIKU], auth_mode=mode)}) as running,
    ):
        for name in ("converse", "chat to Bedrock"):
            path, body = WAYS[name]
            code, headers, answer = await exchanged(running, post(path, body, f"Authorization: Bearer {SECRET}"))
            assert code == 503, (name, answer)
            assert not {"location", "refresh"} & headers.keys()
            assert str(providers.bedrock.url).encode() not in answer
    assert providers.take() == []


async def test_a_client_that_breaks_off_in_its_head_leaves_its_key_nowhere(tmp_path, providers, capfd, monkeypatch):
    monkeypatch.setattr(throttle, "QUIET_SECONDS", 0.0)  # so that each of these calls writes a line
    async with gated(tmp_path, providers) as running:
        for head in (
            f"Authorization: Bearer {SECRET}\x01", f"Authorization : Bearer {SECRET}", f"{SECRET}", f"Cookie: {SECRET}\rx",
        ):  # fmt: skip
            raw = await connected(running)
            raw.writer.write(request("POST /v1/messages HTTP/1.1", head))
            assert (await raw.reply())[0] == 400
        await running.log_is_written()
        assert len(running.lines.entries("http.error")) == 4
        assert SECRET.encode() not in running.lines.data
    output = capfd.readouterr()
    assert SECRET not in output.out + output.err
