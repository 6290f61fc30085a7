"""Tests of listeners with TLS: calls, certificates that change, clients' certificates, and clients that never
finish.
"""

import asyncio
import json
import ssl
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import aiohttp
import boto3
import pytest

from gateway.config.load import load
from gateway.contract.registry import discover
from gateway.process.reload import Reloader
from gateway.process.serve import listening
from gateway.telemetry.log import configure
from gateway.testkit.scenarios import Scenario
from tests.helpers.gateway import EVERYTHING, HAIKU, NOVA, Lines, bedrock, gate
from tests.helpers.raw_http import Raw, raw_connections  # noqa: F401 (a fixture of every test here)
from tests.helpers.tls import authority, certified, signed
from tests.helpers.waiting import eventually

HOST = "ai.example.ts.net"
HELLO = {"max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], "model": HAIKU}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the paths of a certificate for `HOST` and of its key."""
    return certified(tmp_path_factory.mktemp("listener"), HOST)


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """Return the certificate authority of the clients, and a client's certificate and key."""
    own = authority(tmp_path_factory.mktemp("clients"), "clients")
    return own[0], signed(own, "laptop")


def listener(files, **more):
    certificate, key = map(str, files)
    return {"listen": "127.0.0.1:0", "tls": {"certificate": certificate, "key": key, **more}}


def over_tls(state, sim, files, limits=None, **more):
    server = {"listeners": [listener(files, **more)], "limits": limits or {}}
    return gate(state, {"b": bedrock(sim.url)}, server=server)


def trusting(files, client=None):
    """Return a client's settings: the certificate that it accepts, and its own certificate and key."""
    context = ssl.create_default_context(cafile=files[0])
    if client is not None:
        context.load_cert_chain(*client)
    return context


async def ask(gw, path, files, *, client=None, body=None):
    """Return the status and the body of a reply over a new connection."""
    url = f"{gw.url}{path}"
    method = "GET" if body is None else "POST"
    context = trusting(files, client)
    async with aiohttp.request(method, url, json=body, ssl=context, server_hostname=HOST) as reply:
        return reply.status, await reply.read()


async def opened(gw, first=b""):
    place = urlsplit(gw.url)
    return await Raw.open(place.hostname, place.port, first=first)


async def ended(raw):
    """Read until the gateway closes the connection."""
    with suppress(ConnectionError):
        await raw.reader.read()


def client_hello():
    """Return the first bytes of a client that speaks TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        talk.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_over_tls_is_served(tmp_path, bedrock_sim, files, stream):
    async with over_tls(tmp_path, bedrock_sim, files) as gw:
        assert gw.url.startswith("https://127.0.0.1:")
        status, body = await ask(gw, "/v1/messages", files, body={**HELLO, "stream": stream})
        assert status == 200
        assert (b"message_stop" if stream else b'"stop_reason"') in body
        (record,) = await gw.calls()
        assert (record["outcome"], record["stream"]) == ("ok", stream)


async def test_boto3_sends_its_bearer_key_over_tls(tmp_path, bedrock_sim, monkeypatch):
    """Check that a call of boto3 with a bearer key is served. botocore sends a bearer key over HTTPS only."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "of-nobody")
    own = certified(tmp_path, "localhost")
    async with over_tls(tmp_path, bedrock_sim, own) as gw:
        url = gw.url.replace("127.0.0.1", "localhost")
        client = boto3.client(
            "bedrock-runtime", region_name="us-east-1", endpoint_url=f"{url}/bedrock", verify=str(own[0])
        )
        messages = [{"role": "user", "content": [{"text": "Hi"}]}]
        reply = await asyncio.to_thread(client.converse_stream, modelId=NOVA, messages=messages)
        events = await asyncio.to_thread(list, reply["stream"])
        assert "metadata" in events[-1]
        (record,) = await gw.calls()
        assert (record["outcome"], record["api"]) == ("ok", "bedrock_converse")


async def test_urls_that_clients_are_told_begin_with_https(tmp_path, bedrock_sim, files):
    async with over_tls(tmp_path, bedrock_sim, files) as gw:
        status, body = await ask(gw, "/v1/v1/messages", files, body=HELLO)
        assert status == 404
        assert gw.url.encode() in body


async def test_a_client_that_speaks_plain_http_is_told_to_use_https(tmp_path, bedrock_sim, files):
    async with over_tls(tmp_path, bedrock_sim, files) as gw:
        raw = await opened(gw)
        status, headers, body = await raw.ask("/v1/models")
        assert status == 400
        assert "https://" in json.loads(body)["error"]
        assert headers["x-request-id"]
        assert await raw.reader.read() == b""
        (line,) = await gw.lines.until("tls.failed")
        assert line["reason"] == "the client speaks plain HTTP"


async def test_only_clients_with_a_certificate_are_served_if_it_is_required(tmp_path, bedrock_sim, files, clients):
    ca, client = clients
    async with over_tls(tmp_path, bedrock_sim, files, client_ca=str(ca)) as gw:
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await ask(gw, "/healthz", files)
        (line,) = await gw.lines.until("tls.failed")
        assert line["reason"] == "peer did not return a certificate"
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await ask(gw, "/healthz", files, client=files)
        assert (await ask(gw, "/healthz", files, client=client))[0] == 200


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01", "half"], ids=["silent", "begun", "half"])
async def test_a_handshake_that_does_not_end_is_closed_in_time(tmp_path, bedrock_sim, files, first):
    first = client_hello()[:100] if first == "half" else first
    async with over_tls(tmp_path, bedrock_sim, files, limits={"head_seconds": 1}) as gw:
        raws = [await opened(gw, first) for _ in range(5)]
        assert (await ask(gw, "/v1/messages", files, body=HELLO))[0] == 200
        for raw in raws:
            await ended(raw)
        (line,) = await gw.lines.until("connections.refused")
        assert line["limit"] == "head_seconds"
        await eventually(lambda: gw.running.connections.count == 0)


async def test_handshakes_count_among_the_connections(tmp_path, bedrock_sim, files):
    async with over_tls(tmp_path, bedrock_sim, files, limits={"connections": 10}) as gw:
        raws = [await opened(gw) for _ in range(30)]
        await eventually(lambda: gw.running.connections.count == 10)
        assert (await ask(gw, "/v1/messages", files, body=HELLO))[0] == 200
        for raw in raws:
            raw.writer.close()
        await eventually(lambda: gw.running.connections.count == 0)


async def test_a_handshake_that_breaks_off_anywhere_leaves_nothing(tmp_path, bedrock_sim, files):
    hello = client_hello()
    async with over_tls(tmp_path, bedrock_sim, files, limits={"head_seconds": 2}) as gw:
        for cut in range(0, len(hello), 23):
            raw = await opened(gw, hello[:cut])
            raw.writer.close()
        for garbage in (b"\x16" * 200, hello[:5] + b"\xff" * 300, hello[:50] + hello):
            raw = await opened(gw, garbage)
            await ended(raw)
        await eventually(lambda: gw.running.connections.count == 0)
        assert (await ask(gw, "/healthz", files))[0] == 200


@asynccontextmanager
async def reloading(state, sim, certificate, key):
    """Yield a gateway that was started from a file, its reloader, and its log."""
    path, lines, registry = state / "config.hujson", Lines(), discover()
    server = {"listeners": [listener((certificate, key))]}
    path.write_text(json.dumps({"providers": {"b": bedrock(sim.url)}, "grants": EVERYTHING, "server": server}))
    loaded = load(path, plugins=registry.known)
    assert {certificate, key} <= loaded.watched
    async with listening(loaded.config, registry, state=state, log=configure(lines)) as running:
        yield running, Reloader(path, running.gateway, None, loaded), lines


async def test_new_connections_get_a_changed_certificate_and_open_ones_go_on(tmp_path, bedrock_sim, files):
    (tmp_path / "new").mkdir()
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(files[0].read_bytes())
    key.write_bytes(files[1].read_bytes())
    new = certified(tmp_path / "new", HOST)
    async with (
        reloading(tmp_path, bedrock_sim, certificate, key) as (running, reloader, lines),
        aiohttp.ClientSession() as session,
    ):
        (url,) = running.urls

        async def status(context):
            async with session.get(f"{url}/healthz", ssl=context, server_hostname=HOST) as reply:
                return reply.status

        before = trusting(files)
        assert await status(before) == 200
        certificate.write_bytes(new[0].read_bytes())
        await reloader.reload()
        assert "does not belong to" in str(await lines.until("config.refused"))  # the key is not there yet
        assert (await ask_url(url, files))[0] == 200
        key.write_bytes(new[1].read_bytes())
        await reloader.reload()
        await lines.until("config.reloaded")
        assert not lines.entries("config.needs_restart")
        assert (await ask_url(url, new))[0] == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask_url(url, files)
        assert await status(before) == 200  # over the connection that is open


async def ask_url(url, files):
    async with aiohttp.request("GET", f"{url}/healthz", ssl=trusting(files), server_hostname=HOST) as reply:
        return reply.status, await reply.read()


async def test_a_stop_waits_for_a_call_over_tls(tmp_path, bedrock_sim, files):
    bedrock_sim.default = Scenario(delay=1)
    async with over_tls(tmp_path, bedrock_sim, files) as gw:
        call = asyncio.create_task(ask(gw, "/v1/messages", files, body={**HELLO, "stream": True}))
        await eventually(lambda: bedrock_sim.requests)
    status, body = await call
    assert status == 200
    assert b"message_stop" in body
