"""Tests of programs that speak HTTP/2 with the gateway: the clients curl, AWS's SDK for JavaScript, h2load and nghttp,
and the proxies Caddy and HAProxy.

h2spec tries the rules of RFC 9113 and RFC 7541, one by one."""

import asyncio
import json
import os
import re
import xml.etree.ElementTree as ET
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.clients import page
from tests.clients.programs import NOWHERE
from tests.clients.samples import ROOT, TOOLS_FOLDER, program
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate
from tests.helpers.ports import listening
from tests.helpers.tls import certified

SCRIPT = ROOT / "tests" / "clients" / "node" / "aws_sdk.mjs"
HELLO = {"max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], "model": HAIKU}
HELLO_FROM = "Hello from a simulated model. You said: Hi"


@pytest.fixture
def certificate(tmp_path):
    """Return the paths of a certificate for localhost, and of its key."""
    return [str(path) for path in certified(tmp_path, "localhost")]


@pytest.fixture
async def gw(tmp_path, bedrock_sim, certificate, unused_tcp_port):
    """Return a gateway with a listener without TLS, and one with TLS."""
    tls = dict(zip(("certificate", "key"), certificate, strict=True))
    server = {
        "listeners": [
            {"listen": "127.0.0.1:0", "identity": "static", "login": "ci@example.com"},
            {"listen": f"127.0.0.1:{unused_tcp_port}", "tls": tls},
        ]
    }
    async with gate(tmp_path / "state", {"b": bedrock(bedrock_sim.url)}, server=server) as running:
        yield running


def url(gw, scheme):
    """Return the URL of the gateway's listener for `scheme`. The certificate of the TLS listener is for localhost."""
    plain, encrypted = gw.running.urls
    return plain if scheme == "http" else encrypted.replace("127.0.0.1", "localhost")


async def run(*command, stdin="", **environ):
    """Run a program, and return what it printed. Fails if the program fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=TOOLS_FOLDER if TOOLS_FOLDER.is_dir() else ROOT,
        env={"PATH": os.environ["PATH"], **NOWHERE, "NO_PROXY": "127.0.0.1,localhost", **environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.parametrize(("scheme", "option"), [("http", "--http2-prior-knowledge"), ("https", "--http2")])
@pytest.mark.parametrize("stream", [False, True])
async def test_curl(gw, certificate, scheme, option, stream):
    body = json.dumps(HELLO | {"stream": stream})
    out = await run(
        program("curl"), "-sS", option, "--cacert", certificate[0], "-w", "\n%{http_version} %{http_code}",
        "-d", body, f"{url(gw, scheme)}/v1/messages",
    )  # fmt: skip
    assert out.endswith("\n2 200")
    assert "end_turn" in out
    (record,) = await gw.calls()
    assert (record["outcome"], record["stream"], record["agent"]) == ("ok", stream, "curl")


async def test_curl_gets_the_reply_to_a_body_that_is_too_large(gw, tmp_path):
    """Check that curl gets the error for a body that is too large. curl 7 would lose the error if the gateway reset the
    stream immediately after sending it.
    """
    (tmp_path / "body").write_bytes(b"x" * 40_000_000)
    out = await run(
        program("curl"), "-sS", "--http2-prior-knowledge", "-w", "\n%{http_code}", "--data-binary",
        f"@{tmp_path / 'body'}", f"{url(gw, 'http')}/v1/messages",
    )  # fmt: skip
    assert out.endswith("\n413")
    assert "request_too_large" in out


async def test_curl_that_asks_for_an_upgrade_goes_on_in_http1(gw):
    out = await run(program("curl"), "-sS", "--http2", "-w", "%{http_version}", f"{url(gw, 'http')}/healthz")
    assert out == "ok\n1.1"


@pytest.mark.parametrize("end", ["/bedrock", "/bedrock/"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_awss_sdk_for_javascript(gw, certificate, scheme, end):
    """Check that the settings of `deploy/clients.md` work, also if the base URL ends with a slash. The SDK then sends
    paths with two slashes.
    """
    if not (TOOLS_FOLDER / "node_modules" / "@aws-sdk" / "client-bedrock-runtime").is_dir():
        pytest.skip("AWS's SDK for JavaScript is not in .tools")
    (code,) = page.settings("AWS SDK for JavaScript", url(gw, scheme), "js")
    assert code.count("/bedrock") == 1
    code = code.replace("/bedrock", end)
    node = program("node")
    out = await run(
        node, "--input-type=module", "--eval", SCRIPT.read_text(), NOVA, stdin=code, NODE_EXTRA_CA_CERTS=certificate[0]
    )
    result = json.loads(out.splitlines()[-1])
    assert result == {"handler": "NodeHttp2Handler", "whole": HELLO_FROM, "streamed": [HELLO_FROM] * 10}
    assert {record["api"] for record in await gw.calls(11)} == {"bedrock_converse"}


async def test_h2load(gw, tmp_path):
    (tmp_path / "body").write_text(json.dumps(HELLO))
    out = await run(
        program("h2load"), "-n", "60", "-c", "3", "-m", "10", "-d", str(tmp_path / "body"),
        "-H", "content-type: application/json", f"{url(gw, 'http')}/v1/messages",
    )  # fmt: skip
    assert "60 succeeded, 0 failed, 0 errored" in out
    assert "status codes: 60 2xx" in out


async def test_nghttp(gw):
    out = await run(program("nghttp"), "-nvv", f"{url(gw, 'http')}/healthz", f"{url(gw, 'http')}/readyz")
    assert len(re.findall(r"recv \(stream_id=\d+\) :status: 200", out)) == 2
    assert "error_code=PROTOCOL_ERROR" not in out


PREFACE = "Sends invalid connection preface"
NOT_KEPT = {"http": {PREFACE}, "https": set()}
"""Rules of HTTP/2 that the gateway does not keep, by scheme. Without TLS, a wrong preface is answered as a wrong
request of HTTP/1.1.
"""
LEAVING = {"Sends a GOAWAY frame", "Sends a GOAWAY frame with unknown error code"}
RESET = "connection reset by peer"
"""A text in h2spec's reason for a failed rule. Failures of the rules in `LEAVING` with this text are ignored.

The gateway closes a connection after the client's GOAWAY, which is allowed. A later PING of h2spec gets a reset, which
h2spec does not accept in place of a close.
"""


@pytest.mark.parametrize("scheme", NOT_KEPT)
async def test_h2spec(gw, tmp_path, scheme):
    host, port = url(gw, scheme).partition("://")[2].split(":")
    report, encrypted = tmp_path / "report.xml", ["-t", "-k"] if scheme == "https" else []
    # its exit status is that of the rules, which the report tells apart
    out = await run(
        "sh", "-c", '"$0" "$@" || true', program("h2spec", "go"), "-h", host, "-p", port, "-P", "/healthz",
        "-j", str(report), *encrypted,
    )  # fmt: skip
    # the reasons of failures have bytes that XML does not allow
    cases = ET.fromstring(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", report.read_text())).iter("testcase")
    results = {case.get("classname"): [child.text or "" for child in case if child.tag != "skipped"] for case in cases}
    assert len(results) > 100, out
    broken = {
        rule
        for rule, reasons in results.items()
        if any(rule not in LEAVING or RESET not in reason for reason in reasons)
    }
    assert broken == NOT_KEPT[scheme], out


CADDY = """
{{
    admin off
    auto_https off
    storage file_system {folder}
}}
http://127.0.0.1:{port} {{
    reverse_proxy h2c://{gateway} {{
        header_up Host {{upstream_hostport}}
        flush_interval -1
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend clients
    bind 127.0.0.1:{port}
    default_backend gateway
backend gateway
    http-reuse always
    server irisgate {gateway} proto h2
"""
PROXIES = {"caddy": (CADDY, ("run", "--adapter", "caddyfile", "--config")), "haproxy": (HAPROXY, ("-db", "-f"))}


@asynccontextmanager
async def in_front(name, gateway, folder, port):
    """Run a proxy that speaks HTTP/2 to the gateway. Yield its URL."""
    text, options = PROXIES[name]
    path = program(name)
    config = folder / f"{name}.cfg"
    config.write_text(text.format(port=port, gateway=gateway.partition("://")[2], folder=folder))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    quiet = {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
    async with listening(path, *options, config, port=port, env=environment, **quiet):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("name", PROXIES)
async def test_a_proxy_in_front(gw, tmp_path, unused_tcp_port_factory, name):
    async with (
        in_front(name, url(gw, "http"), tmp_path, unused_tcp_port_factory()) as front,
        aiohttp.ClientSession() as session,
    ):

        async def ask(stream):
            headers = {"Host": url(gw, "http").partition("://")[2]}
            async with session.post(f"{front}/v1/messages", json=HELLO | {"stream": stream}, headers=headers) as reply:
                return reply.status, (await reply.read()).count(b"end_turn")

        assert await asyncio.gather(*map(ask, [False, True] * 10)) == [(200, 1)] * 20
        records = await gw.calls(20)
        assert [record["outcome"] for record in records] == ["ok"] * 20
        assert gw.running.connections.count < 10
