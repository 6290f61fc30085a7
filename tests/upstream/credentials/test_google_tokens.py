"""Tests of `"apikey": "keyfile::PATH"`. A simulated token endpoint of Google checks every request, and a simulated
provider accepts only tokens that were issued and have not expired.
"""

import asyncio
import json
from base64 import urlsafe_b64decode
from contextlib import asynccontextmanager
from time import time

import aiohttp
import pytest
from aiohttp import web

from gateway.config.credentials import ServiceAccount
from gateway.config.document.secrets import Secret
from gateway.config.load import load
from gateway.contract.registry import discover
from gateway.process.reload import Reloader
from gateway.process.serve import listening
from gateway.telemetry.log import configure
from gateway.testkit.google import GoogleSim
from gateway.upstream.credentials import renewal
from gateway.upstream.credentials.google_tokens import assertion_of
from tests.helpers.gateway import EVERYTHING, LOOPBACK, Gate, Lines, gate
from tests.helpers.google import EMAIL, key_file, pem, private_key
from tests.helpers.providers import provider

CHAT = {"model": "gemini", "messages": [{"role": "user", "content": "hello"}]}
OTHER = "other@simulated.iam.gserviceaccount.com"


@pytest.fixture
async def google():
    async with GoogleSim() as sim:
        yield sim


@pytest.fixture
def account(google, tmp_path, monkeypatch):
    """Write a key file into the working folder, and return its path. A configuration that was not read from a file can
    name the key file without a folder.
    """
    monkeypatch.chdir(tmp_path)
    return key_file(tmp_path / "sa.json", google.create_key(EMAIL, private_key()))


def vertex(sim, upstream, **more):
    """Return the configuration of a Vertex provider whose tokens come from the simulated token endpoint."""
    upstream.keys = sim.tokens
    return {
        "baseurl": upstream.url, "models": ["gemini"], "compatibility": {"openai_chat": True}, "cost_basis": "vertex",
        "apikey": "keyfile::sa.json", "google": {"token_uri": f"{sim.url}/token"}, **more,
    }  # fmt: skip


async def status(gw, **more):
    return (await gw.post("/v1/chat/completions", {**CHAT, **more})).status


async def test_calls_are_sent_with_a_token_and_share_it(tmp_path, google, account, openai_upstream):
    async with gate(tmp_path / "state", {"v": vertex(google, openai_upstream)}) as gw:
        assert [await status(gw) for _ in range(3)] == [200] * 3
        assert await status(gw, stream=True) == 200
    assert [seen.refused for seen in google.requests] == [""]
    sent = {seen.headers["authorization"] for seen in openai_upstream.requests}
    assert sent == {f"Bearer {token}" for token in google.tokens.expiries}


async def test_many_first_calls_wait_for_one_request(tmp_path, google, account, openai_upstream):
    async with gate(tmp_path / "state", {"v": vertex(google, openai_upstream)}) as gw:
        assert await asyncio.gather(*[status(gw) for _ in range(50)]) == [200] * 50
    assert len(google.requests) == 1


async def test_tokens_are_renewed_under_load_and_no_call_fails(tmp_path, google, account, openai_upstream, monkeypatch):
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.05)
    google.seconds = 1.5
    async with gate(tmp_path / "state", {"v": vertex(google, openai_upstream)}) as gw:
        until, statuses = time() + 5, []

        async def caller():
            while time() < until:
                statuses.append(await status(gw))
                await asyncio.sleep(0.01)

        await asyncio.gather(*[caller() for _ in range(8)])
        assert len(statuses) > 100
        assert set(statuses) == {200}
        assert 3 <= len(google.requests) <= 8
        assert not gw.lines.entries("upstream.key_refused")
    assert {seen.refused for seen in google.requests} == {""}


@pytest.mark.parametrize("minutes", [10, -10])
async def test_a_wrong_clock_is_told_and_corrected_by_googles_date(tmp_path, google, account, openai_upstream, minutes):
    google.offset = minutes * 60.0
    async with gate(tmp_path / "state", {"v": vertex(google, openai_upstream)}) as gw:
        assert [await status(gw), await status(gw)] == [200, 200]
        (line,) = await gw.lines.until("upstream.clock_corrected")
        assert (line["provider"], abs(line["seconds"] - minutes * 60) <= 2) == ("v", True)
    assert [bool(seen.refused) for seen in google.requests] == [True, False]


def deleted_key(google):
    google.accounts[EMAIL] = {}


def deleted_account(google):
    google.accounts = {}


def another_key(google):
    (key,) = google.accounts[EMAIL].values()
    key.private = private_key(2)


def outage(google):
    google.status = 503


def redirect(google):
    google.status = 307


REFUSALS = {
    # what is wrong: (words of the message, words of the remedy)
    deleted_key: ("invalid_grant: Invalid JWT Signature.", "the key may have been deleted: create a new key"),
    another_key: ("invalid_grant: Invalid JWT Signature.", "the key may have been deleted: create a new key"),
    deleted_account: ("invalid_grant: Invalid grant: account not found", "was deleted or disabled"),
    outage: ("answered 503 for", "wait, because the endpoint is asked again"),
    redirect: ("answered 307 for", 'correct "google": {"token_uri": ...}'),
}


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda fault: fault.__name__)
async def test_a_refusal_says_which_account_where_and_what_to_do(tmp_path, google, account, openai_upstream, fault):
    fault(google)
    async with gate(tmp_path / "state", {"v": vertex(google, openai_upstream)}) as gw:
        reply = await gw.post("/v1/chat/completions", CHAT)
        message = (await reply.json())["error"]["message"]
        assert (reply.status, "no valid credential for v; tell an administrator" in message) == (502, True)
        (line,) = await gw.lines.until("upstream.credentials_failed")
        words, remedy = REFUSALS[fault]
        key_id = json.loads(account.read_text())["private_key_id"]
        place = google.url.removeprefix("http://")
        assert line["message"].startswith(f"the token endpoint {place} answered ")
        assert f"for {EMAIL} (key {key_id})" in line["message"]
        assert words in line["message"]
        assert remedy in line["remedy"]
        assert pem(private_key()).splitlines()[1] not in gw.lines.data.decode()
    assert len(google.requests) == 1
    assert openai_upstream.requests == []


async def test_a_wrong_scope_is_told(tmp_path, google, account, openai_upstream):
    settings = {"token_uri": f"{google.url}/token", "scopes": ["email"]}
    async with gate(tmp_path / "state", {"v": vertex(google, openai_upstream, google=settings)}) as gw:
        assert await status(gw) == 502
        (line,) = await gw.lines.until("upstream.credentials_failed")
        assert line["remedy"] == 'correct "google": {"scopes": [...]} of the provider'


async def test_an_endpoint_that_cannot_be_reached_is_told(tmp_path, google, account, openai_upstream):
    settings = {"token_uri": "http://127.0.0.1:1/token"}
    async with gate(tmp_path / "state", {"v": vertex(google, openai_upstream, google=settings)}) as gw:
        assert await status(gw) == 502
        (line,) = await gw.lines.until("upstream.credentials_failed")
        assert line["message"].startswith(
            "the token endpoint 127.0.0.1:1 cannot be reached: 127.0.0.1:1: nothing listens"
        )
        assert line["remedy"] == "let the gateway reach the address"


@pytest.mark.parametrize(
    ("uri", "audience"),
    [
        ("https://oauth2.googleapis.com/token", "https://oauth2.googleapis.com/token"),
        ("https://accounts.google.com/o/oauth2/token", "https://oauth2.googleapis.com/token"),
        ("https://script.google.com/macros/s/x/exec", "https://script.google.com/macros/s/x/exec"),
        ("https://oauth2.googleapis.com:444/token", "https://oauth2.googleapis.com:444/token"),
    ],
)
def test_only_googles_endpoint_gets_a_jwt_that_google_takes(uri, audience):
    account = ServiceAccount(EMAIL, Secret(pem(private_key())), "k1", uri, ("s", "t"))
    header, claims, _ = assertion_of(account, account.key.value.encode(), 1_800_000_000).split(".")
    assert json.loads(urlsafe_b64decode(header + "==")) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert json.loads(urlsafe_b64decode(claims + "==")) == {
        "iss": EMAIL, "scope": "s t", "aud": audience, "iat": 1_799_999_940, "exp": 1_800_003_540,
    }  # fmt: skip


ODD = {
    # body of a reply with status 200
    "no JSON": b"<html>",
    "no object": b"[]",
    "no token": b'{"expires_in": 3600}',
    "no expiry": b'{"access_token": "t"}',
    "an expiry that is no number": b'{"access_token": "t", "expires_in": "3600"}',
    "an expiry in the past": b'{"access_token": "t", "expires_in": -1}',
    "a token with a line break": b'{"access_token": "t\\r\\nx: y", "expires_in": 3600}',
    "a long token": b'{"access_token": "' + b"t" * 20_000 + b'", "expires_in": 3600}',
    "too many bytes": b" " * 70_000,
}


@pytest.mark.parametrize("body", ODD)
async def test_a_reply_that_is_none_is_a_failure(tmp_path, google, account, openai_upstream, body):
    async def answer(_request):
        return web.Response(body=ODD[body], content_type="application/json")

    async with provider(answer) as url:
        settings = {"token_uri": f"{url}/token"}
        async with gate(tmp_path / "state", {"v": vertex(google, openai_upstream, google=settings)}) as gw:
            assert await status(gw) == 502
            await gw.lines.until("upstream.credentials_failed")
    assert openai_upstream.requests == []


async def test_a_token_that_the_provider_refuses_is_replaced_once(
    tmp_path, google, account, openai_upstream, monkeypatch
):
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.0)
    async with gate(tmp_path / "state", {"v": vertex(google, openai_upstream)}) as gw:
        assert await status(gw) == 200
        google.tokens.expiries.clear()
        assert await status(gw) == 200
        openai_upstream.keys = set()
        assert await status(gw) == 502
        (line,) = await gw.lines.until("upstream.key_refused")
        assert line["issuer"] == f"token of {EMAIL}"
        assert "ya29." not in gw.lines.data.decode()


async def test_a_token_that_a_provider_repeats_reaches_no_client(tmp_path, google, account, openai_upstream):
    seen = []

    async def answer(request):
        seen.append(request.headers["authorization"])
        return web.json_response({"error": {"message": f"no access with {seen[-1]}"}}, status=403)

    async with (
        provider(answer) as url,
        gate(tmp_path / "state", {"v": vertex(google, openai_upstream, baseurl=url)}) as gw,
    ):
        reply = await gw.post("/v1/chat/completions", CHAT)
        assert "ya29." not in await reply.text()
        assert await gw.calls()
        assert "ya29." not in gw.lines.data.decode()
    assert seen[0].startswith("Bearer ya29.")


@asynccontextmanager
async def from_file(tmp_path, providers):
    """Run a gateway that reloads its configuration file, and the files that this file names, when they change."""
    path, registry, lines = tmp_path / "config.hujson", discover(), Lines()
    path.write_text(json.dumps({"providers": providers, "grants": EVERYTHING, "server": LOOPBACK}))
    loaded = load(path, plugins=registry.known)
    async with (
        listening(loaded.config, registry, state=tmp_path, log=configure(lines)) as running,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        following = asyncio.create_task(Reloader(path, running.gateway, None, loaded).follow())
        yield Gate(running, session, lines)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_replaced_key_file_is_used_without_a_restart(tmp_path, google, account, openai_upstream):
    async with from_file(tmp_path, {"v": vertex(google, openai_upstream)}) as gw:
        assert await status(gw) == 200
        account.write_text("{")
        await gw.lines.until("config.refused")
        assert await status(gw) == 200
        google.accounts[EMAIL] = {}  # the old key is deleted, and its tokens are valid until they expire
        made = tmp_path / "new.json"
        key_file(made, google.create_key(EMAIL, private_key(2)))
        made.replace(account)
        (line,) = await gw.lines.until("config.changed")
        assert line["changed"] == ["providers.v.apikey"]
        assert await status(gw) == 200
    assert [seen.refused for seen in google.requests] == ["", ""]


async def test_a_key_of_a_pool_that_gets_no_token_gives_way_to_the_next(
    tmp_path, google, account, openai_upstream, monkeypatch
):
    other = google.create_key(OTHER, private_key(2))
    key_file(tmp_path / "other.json", other)
    keys = {"a": "keyfile::sa.json", "b": "keyfile::other.json"}
    google.accounts.pop(EMAIL)
    pool = vertex(google, openai_upstream, apikeys=keys)
    del pool["apikey"]
    async with gate(tmp_path / "state", {"v": pool}) as gw:
        assert await status(gw) == 200
        (record,) = await gw.calls()
        assert record["key"] == "b"
        (line,) = await gw.lines.until("upstream.credentials_failed")
        assert (line["provider"], line["key"], EMAIL in line["message"]) == ("v", "a", True)


async def test_the_keys_of_a_pool_are_renewed_each_by_itself(tmp_path, google, account, openai_upstream, monkeypatch):
    """Check that the three keys of a pool are used in turn, and that each key that expires is renewed by itself.

    The first key comes from a service account, the second from a program, and the third is fixed.
    """
    monkeypatch.setattr(renewal, "AGAIN_SECONDS", 0.05)
    google.seconds = 1.0
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    (helpers / "token").write_text(
        f'#!/bin/sh\necho x >> {tmp_path}/runs\nprintf \'{{"key": "sk-of-the-program", "expires_in": 1}}\'\n'
    )
    (helpers / "token").chmod(0o755)
    pool = vertex(google, openai_upstream, apikeys={"a": "keyfile::sa.json", "b": "exec:token", "c": "sk-fixed"})
    del pool["apikey"]
    for key in ("sk-of-the-program", "sk-fixed"):
        google.tokens.expiries[key] = time() + 3600
    async with gate(tmp_path / "state", {"v": pool}) as gw:
        until = time() + 4
        count = 0
        while time() < until:
            headers = {"x-session-id": f"session-{count}"}
            assert (await gw.post("/v1/chat/completions", CHAT, headers=headers)).status == 200
            count += 1
            await asyncio.sleep(0.01)
        records = await gw.calls(count)
        assert {record["key"] for record in records} == {"a", "b", "c"}
    runs = (tmp_path / "runs").read_text().count("x")
    assert 3 <= len(google.requests) <= 12
    assert 3 <= runs <= 12
    sent = {seen.headers["authorization"] for seen in openai_upstream.requests}
    assert {"Bearer sk-of-the-program", "Bearer sk-fixed"} < sent


async def test_a_program_of_a_pool_that_fails_gives_way_to_the_next(tmp_path, openai_upstream, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "token").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "helpers" / "token").chmod(0o755)
    openai_upstream.keys = {"sk-fixed"}
    pool = {
        "baseurl": openai_upstream.url, "models": ["gemini"], "compatibility": {"openai_chat": True},
        "apikeys": {"a": "exec:token", "b": "sk-fixed"},
    }  # fmt: skip
    async with gate(tmp_path / "state", {"v": pool}) as gw:
        assert await status(gw) == 200
        (line,) = await gw.lines.until("upstream.credentials_failed")
        assert (line["key"], line["message"]) == ("a", "token ended with status 3")
        assert (await gw.readiness())[0] == 200


async def test_a_direct_request_has_a_token_of_the_next_key_too(tmp_path, google, account, openai_upstream):
    key_file(tmp_path / "other.json", google.create_key(OTHER, private_key(2)))
    google.accounts.pop(EMAIL)
    pool = vertex(google, openai_upstream, apikeys={"a": "keyfile::sa.json", "b": "keyfile::other.json"})
    del pool["apikey"]
    openai_upstream.listed = ["gemini"]
    async with gate(tmp_path / "state", {"v": pool}) as gw:
        assert (await gw.get("/direct/v/v1/models")).status == 200
    assert [seen.headers["authorization"][:12] for seen in openai_upstream.requests] == ["Bearer ya29."]
