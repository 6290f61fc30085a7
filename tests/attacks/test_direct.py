"""Attacks on `/direct/{provider}/`: they try to get keys, or to reach hosts, providers and paths that are not granted."""

import itertools
import json

import pytest

from tests.helpers.echo_provider import echo_provider, in_chunks, whole
from tests.helpers.gateway import CAP, gate
from tests.helpers.hostile_http import connected, request

SECRET = "sk-the-gateways-own-key-4711"
OTHERS_SECRET = "sk-of-another-provider-0815"
CANARY = "canary-of-a-client"
GRANTED = ["GET /direct/acme/v1/files/*", "POST,PUT /direct/acme/v1/files/*/content", "/direct/acme/open/**"]
HOSTILE = [
    "/direct/acme/v1/files/../models",
    "/direct/acme/v1/files/%2e%2e/models",
    "/direct/acme/v1/files/%2E./models",
    "/direct/acme/v1/files/..;/models",
    "/direct/acme/v1/files/..;a=b/models",
    "/direct/acme/v1/files/..%2fmodels",
    "/direct/acme/v1/files/..%2F..%2Fmodels",
    "/direct/acme/v1/files/%2e%2e%2fmodels",
    "/direct/acme/v1/files/%252e%252e%252fmodels",
    "/direct/acme/v1/files/a%252fb",
    "/direct/acme/v1/files/..%5cmodels",
    "/direct/acme/v1/files/..\\models",
    "/direct/acme/v1/files//models",
    "/direct/acme/v1/files/%2f%2fevil.example",
    "/direct/acme//v1/files/x",
    "/direct/acme//evil.example/v1/files/x",
    "/direct/acme/./v1/files/x",
    "/direct/acme/../other/v1/files/x",
    "/direct/acme/..%2fother/v1/files/x",
    "/direct/acme/http://evil.example/x",
    "/direct/acme/v1/files/x%00",
    "/direct/acme/v1/files/x%0d%0aX-Evil:1",
    "/direct/acme/v1/files/x%c0%af..%c0%afmodels",
    "/direct/acme/v1/files/x%ff",
    "/direct/acme/v1/files/x%",
    "/direct/acme/v1/files/x%2",
    "/direct/acme/v1/files/x%zz",
    "/direct/acme/v1/files/x|y",
    "/direct/acme/v1/files/<x>",
    "/direct/acme/v1/files/\u00e9",
    "/direct/acme",
    "/direct/",
    "/direct//v1/files/x",
    "/direct/%61cme%2fv1/files/x",
    "/direct/acme%2f..%2fother/v1/files/x",
    "/direct/acme@evil.example/v1/files/x",
    "/direct/acme:80/v1/files/x",
    "/direct/ACME/v1/files/x",
    "/direct/evil.example/v1/files/x",
    "//direct/acme/v1/files/x",
    "/x/../direct/acme/v1/files/x",
    "/direct;a/acme/v1/files/x",
]


@pytest.fixture
async def acme():
    async with echo_provider() as running:
        yield running


@pytest.fixture
async def other():
    async with echo_provider() as running:
        yield running


def providers(acme, other, **more):
    return {
        "acme": {"baseurl": acme.url, "apikey": SECRET, "models": ["m"], **more},
        "other": {"baseurl": other.url, "apikey": OTHERS_SECRET, "models": ["n"]},
        "off": {"baseurl": other.url, "apikey": OTHERS_SECRET, "models": ["o"], "disabled": True},
    }


def user(*paths):
    return [{"src": ["*"], "app": {CAP: [{"role": "user", "direct_paths": list(paths)}]}}]


async def sent(gw, method, path, *headers, body=b""):
    raw = await connected(gw)
    lines = [f"{method} {path} HTTP/1.1", *headers, f"Content-Length: {len(body)}"]
    raw.writer.write(request(*lines, body=body))
    status, head, answer = await raw.reply()
    await raw.close()
    return status, head, answer


@pytest.mark.parametrize("is_admin", [True, False])
async def test_a_hostile_path_reaches_nobody(tmp_path, acme, other, is_admin):
    grants = {} if is_admin else {"grants": user(*GRANTED)}
    async with gate(tmp_path, providers(acme, other), **grants) as gw:
        for path in HOSTILE:
            status, _, answer = await sent(gw, "GET", path)
            assert status in {400, 403, 404}, path
            assert SECRET.encode() not in answer
        assert (await sent(gw, "GET", "/direct/acme/v1/files/x"))[0] == 200
        assert gw.lines.count("call.crashed") == 0
    assert [seen.line for seen in acme.seen] == ["GET /v1/files/x HTTP/1.1"]
    assert other.seen == []


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/direct/acme/v1/x",
        "http://127.0.0.1/direct/acme/v1/x",
        "evil.example:443",
        "*",
        "/direct/acme/v1/x#y",
    ],
)
async def test_a_target_that_is_no_path_reaches_nobody(tmp_path, acme, other, target):
    async with gate(tmp_path, providers(acme, other)) as gw:
        assert (await sent(gw, "GET", target))[0] == 400
    assert acme.seen + other.seen == []


ALLOWED = [
    ("GET", "/direct/acme/v1/files/f1"),
    ("GET", "/direct/acme/v1/files/f%31"),
    ("POST", "/direct/acme/v1/files/f1/content"),
    ("PUT", "/direct/acme/v1/files/f1/content"),
    ("DELETE", "/direct/acme/open/any/thing"),
    ("GET", "/direct/acme/open/arn%3Aaws%3Ax%2Fy"),
]
REFUSED = [
    ("POST", "/direct/acme/v1/files/f1"),
    ("DELETE", "/direct/acme/v1/files/f1"),
    ("GET", "/direct/acme/v1/files"),
    ("GET", "/direct/acme/v1/files/f1/content"),
    ("GET", "/direct/acme/v1/files/f1%2Fcontent"),
    ("POST", "/direct/acme/v1/files/a%2Fb/content"),
    ("PATCH", "/direct/acme/v1/files/f1/content"),
    ("GET", "/direct/acme/v1/models"),
    ("GET", "/direct/acme/openly"),
    ("GET", "/direct/other/v1/files/f1"),
    ("GET", "/direct/nobody/v1/files/f1"),
    ("GET", "/direct/off/v1/files/f1"),
]


async def test_a_user_reaches_what_is_granted_and_nothing_else(tmp_path, acme, other):
    async with gate(tmp_path, providers(acme, other), grants=user(*GRANTED)) as gw:
        for method, path in ALLOWED:
            assert (await sent(gw, method, path))[0] == 200, path
        lines = [seen.line for seen in acme.seen]
        assert lines == [f"{method} {path.removeprefix('/direct/acme')} HTTP/1.1" for method, path in ALLOWED]
        answers = [(path, *await sent(gw, method, path)) for method, path in REFUSED]
    assert {status for _, status, _, _ in answers} == {403}
    assert len(acme.seen) == len(ALLOWED)
    assert other.seen == []


async def test_a_refusal_does_not_tell_which_providers_there_are(tmp_path, acme, other):
    async with gate(tmp_path, providers(acme, other), grants=user(*GRANTED)) as gw:
        answers = {
            (await sent(gw, "GET", f"/direct/{name}/v1/x"))[2].replace(name.encode(), b"P")
            for name in ("other", "nobody", "off")
        }
    (answer,) = answers
    assert json.loads(answer)["error"] == {
        "message": 'access denied: GET /direct/P/v1/x is not granted; a grant needs it in "direct_paths"',
        "type": "permission", "param": "path",
    }  # fmt: skip


async def test_without_a_role_paths_are_worth_nothing(tmp_path, acme, other):
    grants = [{"src": ["*"], "app": {CAP: [{"direct_paths": "/direct/**"}]}}]
    async with gate(tmp_path, providers(acme, other), grants=grants) as gw:
        assert (await sent(gw, "GET", "/direct/acme/v1/x"))[0] == 403
    assert acme.seen == []


async def test_an_admin_is_told_of_a_provider_that_is_not_there(tmp_path, acme, other):
    async with gate(tmp_path, providers(acme, other)) as gw:
        for name in ("nobody", "off"):
            status, _, answer = await sent(gw, "GET", f"/direct/{name}/v1/x")
            assert (status, json.loads(answer)["error"]["param"]) == (404, "path")
    assert other.seen == []


async def test_a_page_of_another_site_reaches_nobody(tmp_path, acme, other):
    async with gate(tmp_path, providers(acme, other)) as gw:
        for header in ("Origin: https://evil.example", "Sec-Fetch-Site: cross-site"):
            assert (await sent(gw, "GET", "/direct/acme/v1/x", header))[0] == 403
    assert acme.seen == []


CREDENTIALS = [
    "Authorization: Bearer ", "Proxy-Authorization: Basic ", "x-api-key: ", "api-key: ", "x-goog-api-key: ", "X_API_KEY: ",
    "anthropic-auth-token: ", "Cookie: session=", "X-Amz-Security-Token: ", "X-Amz-Date: ", "X-Amz-Content-Sha256: ",
    "Helicone-Auth: Bearer ", "X-Litellm-Api-Key: ", "Ocp-Apim-Subscription-Key: ", "X-Auth-Request-Access-Token: ",
    "OpenAI-Organization: ", "OpenAI-Project: ", "Authorization_: ", "X-Jwt-Assertion: ", "X-Client-Secret: ",
]  # fmt: skip
NETWORK = ["Referer: http://", "Sec-Fetch-Mode: ", "X-Envoy-External-Address: ", "X-Irisgate-Anything: ", "DNT: "]
"""Beginnings of header lines that describe the client or its network."""
HOPS = [
    "Connection: keep-alive, x-secret-hop", "x-secret-hop: canary-of-a-client", "Keep-Alive: timeout=canary-of-a-client",
    "Proxy-Connection: canary-of-a-client", "TE: canary-of-a-client", "Trailer: canary-of-a-client",
]  # fmt: skip
OVERRIDES = [
    "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "X-Original-URL: /v1/keys",
    "X-Rewrite-URL: /v1/keys",
]  # fmt: skip


async def test_neither_credentials_nor_the_network_of_a_client_leave(tmp_path, acme, other):
    headers = [f"{name}{CANARY}" for name in CREDENTIALS + NETWORK] + HOPS + OVERRIDES
    async with gate(tmp_path, providers(acme, other)) as gw:
        status, *_ = await sent(
            gw, "GET", f"/direct/acme/v1/x?key={CANARY}&%6bEy={CANARY}&X-Amz-Signature={CANARY}&a=1", *headers
        )
    assert status == 200
    (seen,) = acme.seen
    assert CANARY not in repr(seen)
    assert seen.line == "GET /v1/x?a=1 HTTP/1.1"
    assert seen.names == {"host", "accept", "accept-encoding", "user-agent", "authorization"}
    assert seen["authorization"] == f"Bearer {SECRET}"
    assert seen["host"] == acme.url.removeprefix("http://")


async def test_another_protocol_is_refused(tmp_path, acme, other):
    async with gate(tmp_path, providers(acme, other)) as gw:
        for value in ("websocket", "h2c"):
            status, _, answer = await sent(
                gw, "GET", "/direct/acme/v1/realtime", f"Upgrade: {value}", "Connection: upgrade"
            )
            assert (status, json.loads(answer)["error"]["param"]) == (400, "upgrade")
        assert (await sent(gw, "OPTIONS", "/direct/acme/v1/x"))[0] == 405
        assert (await sent(gw, "TRACE", "/direct/acme/v1/x"))[0] == 405
    assert acme.seen == []


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent", "300 Choices"]
)
async def test_a_redirect_is_neither_followed_nor_passed_on(tmp_path, acme, other, status):
    acme.reply = whole(b"", f"Location: {other.url}/steal", status=status)
    async with gate(tmp_path, providers(acme, other)) as gw:
        code, head, answer = await sent(gw, "POST", "/direct/acme/v1/x", body=b"prompt")
    assert code == 503
    assert "location" not in head
    assert other.url.encode() not in answer
    assert other.seen == []


async def test_no_key_comes_back_in_a_head(tmp_path, acme, other):
    acme.reply = whole(
        b"ok", f"X-Echo: Bearer {SECRET}", f"X-Key-{SECRET[:4]}: a", "Set-Cookie: a=b", "Alt-Svc: h3=evil"
    )
    async with gate(tmp_path, providers(acme, other)) as gw:
        _, head, _ = await sent(gw, "GET", "/direct/acme/v1/x")
    assert SECRET not in repr(head)
    assert {"set-cookie", "alt-svc"}.isdisjoint(head)


FORMS = [
    SECRET, SECRET.replace("-", "\\u002d"), SECRET.replace("-", "%2D"), "".join(f"\\u{ord(c):04x}" for c in SECRET),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_no_key_comes_back_however_it_is_cut(tmp_path, acme, other, form):
    text = f'{{"echo": "before {form} after"}}'.encode()
    async with gate(tmp_path, providers(acme, other)) as gw:
        for at in range(1, len(text), 3):
            acme.reply = in_chunks([text[:at], text[at:]], "Content-Type: text/plain")
            _, _, answer = await sent(gw, "GET", "/direct/acme/v1/x")
            assert answer == b'{"echo": "before [redacted] after"}', at
        acme.reply = in_chunks([bytes([byte]) for byte in text])
        _, _, answer = await sent(gw, "GET", "/direct/acme/v1/x")
        assert answer == b'{"echo": "before [redacted] after"}'


@pytest.mark.parametrize("status", ["400 Bad", "401 Unauthorized", "403 Forbidden", "500 Fault"])
async def test_no_key_comes_back_in_an_error(tmp_path, acme, other, status):
    acme.reply = whole(f'{{"error": {{"message": "no access with {SECRET}"}}}}'.encode(), status=status)
    async with gate(tmp_path, providers(acme, other), more={"database": {"save_raws": True}}) as gw:
        _, head, answer = await sent(gw, "GET", "/direct/acme/v1/x")
        await gw.calls()
        assert SECRET not in repr(head) + repr(answer) + repr(gw.lines.data)
        assert SECRET not in await (await gw.get("/api/calls")).text()


async def test_a_page_in_a_reply_is_inert_in_a_browser(tmp_path, acme, other):
    acme.reply = whole(b"<script>", "Content-Type: text/html", "Content-Security-Policy: default-src *")
    async with gate(tmp_path, providers(acme, other)) as gw:
        _, head, _ = await sent(gw, "GET", "/direct/acme/v1/x")
    assert head["content-security-policy"] == "sandbox; default-src 'none'"
    assert head["x-content-type-options"] == "nosniff"


async def test_members_that_choose_a_host_do_not_reach_a_litellm_proxy(tmp_path, acme, other):
    body = f'{{"api_base": "{other.url}", "input": [1.0, 12345678901234567890], "base_url": "{other.url}"}}'.encode()
    async with gate(tmp_path, providers(acme, other)) as gw:
        status, head, _ = await sent(gw, "POST", "/direct/acme/v1/x", "Content-Type: application/json", body=body)
        assert (status, head["x-irisgate-dropped"]) == (200, "/api_base, /base_url")
        twice = b'{"api_base": 1, "api_base": "http://evil.example"}'
        assert (await sent(gw, "POST", "/direct/acme/v1/x", "Content-Type: application/json", body=twice))[0] == 400
    (seen,) = acme.seen
    assert seen.body == b'{"input": [1.0, 12345678901234567890]}'


async def test_framing_that_two_servers_read_differently_reaches_nobody(tmp_path, acme, other):
    smuggled = b"0\r\n\r\nGET /v1/keys HTTP/1.1\r\nHost: acme\r\n\r\n"
    async with gate(tmp_path, providers(acme, other)) as gw:
        for codings in (["chunked, identity"], ["identity"], ["chunked", "chunked"], ["xchunked"]):
            raw = await connected(gw)
            lines = [f"Transfer-Encoding: {coding}" for coding in codings]
            raw.writer.write(
                request("POST /direct/acme/v1/x HTTP/1.1", *lines, f"Content-Length: {len(smuggled)}", body=smuggled)
            )
            assert (await raw.reply())[0] == 400
            await raw.close()
    assert acme.seen == []


@pytest.mark.parametrize(("scheme", "header"), [("x-api-key", "x-api-key"), ("x-goog-api-key", "x-goog-api-key")])
async def test_the_key_is_sent_in_the_providers_scheme(tmp_path, acme, other, scheme, header):
    async with gate(tmp_path, providers(acme, other, authorization=scheme)) as gw:
        await sent(gw, "GET", "/direct/acme/v1/x", f"Authorization: Bearer {CANARY}", f"{header}: {CANARY}")
    (seen,) = acme.seen
    assert seen[header] == SECRET
    assert "authorization" not in seen.names


async def test_a_provider_without_a_key_gets_none(tmp_path, acme, other):
    async with gate(tmp_path, providers(acme, other, auth_mode="none")) as gw:
        await sent(gw, "GET", "/direct/acme/v1/x", f"Authorization: Bearer {CANARY}")
    assert "authorization" not in acme.seen[0].names


async def test_with_passthrough_the_clients_own_key_is_sent(tmp_path, acme, other):
    async with gate(tmp_path, providers(acme, other, auth_mode="passthrough")) as gw:
        await sent(gw, "GET", "/direct/acme/v1/x", f"Authorization: Bearer {CANARY}", f"Cookie: {CANARY}")
        await sent(gw, "GET", "/direct/acme/v1/x")
    assert [seen["authorization"] for seen in acme.seen] == [f"Bearer {CANARY}", f"Bearer {SECRET}"]
    assert "cookie" not in acme.seen[0].names


def test_every_hostile_path_is_tried_once():
    assert len(set(HOSTILE)) == len(HOSTILE)
    assert not set(itertools.chain(HOSTILE)) & {path for _, path in ALLOWED}
