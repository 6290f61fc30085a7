"""Tests of requests that a web page of another origin sends from a caller's browser.

On every route, such a page can neither cause costs, nor change anything, nor read a reply.
"""

import json
import re

import pytest

from gateway.web.dashboard.frame import ASSETS
from tests.helpers.gateway import CAP, HAIKU, bedrock
from tests.helpers.hostile_http import (
    CHAT,
    CONVERSE,
    CONVERSE_PATH,
    connected,
    heard,
    post,
    request,
    statuses,
)
from tests.web.admin.conftest import from_file

OPEN = {"/healthz", "/readyz"}
"""Routes for monitoring systems. They are served under any host name and for any origin, because they reveal nothing
and change nothing."""
FOREIGN = {
    "another origin": ["Origin: https://evil.example"],
    "an origin that is none": ["Origin: null"],
    "an empty origin": ["Origin:"],
    "our name with another port": ["Origin: http://ai:81"],
    "our name as a part of another": ["Origin: http://ai.evil.example"],
    "our name before another": ["Origin: http://ai@evil.example"],
    "an extension": ["Origin: chrome-extension://abcdefghijklmnop"],
    "a file": ["Origin: file://"],
    "another node of the tailnet": ["Origin: http://laptop.example.ts.net", "Sec-Fetch-Site: same-site"],
    "another site without its name": ["Sec-Fetch-Site: cross-site"],
    "a link that was followed": ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"],
    "an image": ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"],
    "our origin but another site": ["Origin: http://ai", "Sec-Fetch-Site: cross-site"],
}
REBOUND = ["evil.example", "ai.evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example"]
"""Host names that the attacker lets resolve to the gateway's address (DNS rebinding)."""
PREFLIGHT = [
    "Origin: https://evil.example",
    "Access-Control-Request-Method: POST",
    "Access-Control-Request-Headers: content-type, if-match",
    "Access-Control-Request-Private-Network: true",
]
SIMPLE = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
"""Content types that a page may send without a preflight request."""


@pytest.fixture
async def served(tmp_path, bedrock_sim):
    (tmp_path / "state").mkdir()
    path = tmp_path / "config.hujson"
    grants = [{"src": ["*"], "app": {CAP: [{"role": "admin"}, {"models": "**"}, {"read_metrics": True}]}}]
    server = {"listeners": [{"listen": "127.0.0.1:0"}], "hosts": ["ai"]}
    path.write_text(json.dumps({"providers": {"b": bedrock(bedrock_sim.url)}, "grants": grants, "server": server}))
    async with from_file(path) as running:
        yield running


def routes(running):
    """Return every method and path that the gateway has, with values for placeholders."""
    paths = set()
    for route in running.running.app.router.routes():
        paths.add((route.method, re.sub(r"\{[^}]*\}", HAIKU, route.resource.canonical)))
    assert ("PUT", "/aperture/config") in paths
    assert ("GET", "/ui/") in paths
    return sorted(paths - {(method, path) for method, path in paths if path in OPEN})


def request_bytes(method, path, *headers, host="ai"):
    body = json.dumps({**CHAT, **CONVERSE}).encode() if method in {"POST", "PUT"} else b""
    length = [f"Content-Length: {len(body)}"] if body else []
    return request(f"{method} {path} HTTP/1.1", *headers, *length, "Connection: close", host=host, body=body)


async def answers(running, data):
    raw = await connected(running)
    answer = await heard(raw, data)
    await raw.close()
    assert b"access-control-" not in answer.lower()
    return answer


async def test_every_route_refuses_every_page_of_another_origin(served, bedrock_sim):
    before = served.path.read_bytes()
    for method, path in routes(served):
        for what, headers in FOREIGN.items():
            answer = await answers(served, request_bytes(method, path, *headers))
            assert statuses(answer) == [403], (method, path, what, answer[:300])
    assert bedrock_sim.requests == []
    assert served.path.read_bytes() == before


async def test_every_route_refuses_a_name_that_was_bound_to_our_address(served, bedrock_sim):
    for method, path in routes(served):
        for host in REBOUND:
            answer = await answers(served, request_bytes(method, path, f"Origin: http://{host}", host=host))
            assert statuses(answer) == [403], (method, path, host)
            assert statuses(await answers(served, request_bytes(method, path, host=host))) == [403], (
                method,
                path,
                host,
            )
    assert bedrock_sim.requests == []


async def test_no_preflight_is_ever_allowed(served):
    """Check that every preflight request is refused. A browser does not send the real request after a refused
    preflight.
    """
    for _, path in [*routes(served), ("GET", "/healthz"), ("GET", "/nowhere")]:
        for headers in (PREFLIGHT, PREFLIGHT[1:], ["Origin: http://ai", *PREFLIGHT[1:]]):
            (status,) = statuses(await answers(served, request_bytes("OPTIONS", path, *headers)))
            assert 400 <= status < 500, path


async def test_a_form_of_another_page_spends_nothing_whatever_its_type(served, bedrock_sim):
    for kind in SIMPLE:
        for path, body in (("/v1/chat/completions", CHAT), ("/v1/messages", CHAT), (CONVERSE_PATH, CONVERSE)):
            for headers in FOREIGN.values():
                data = post(path, body, f"Content-Type: {kind}", *headers, "Connection: close")
                assert statuses(await answers(served, data)) == [403], (kind, path, headers)
    assert bedrock_sim.requests == []


async def test_no_form_can_change_the_configuration(served):
    """Check that a form cannot change the configuration, even from a browser that sends no `Origin`."""
    before = served.path.read_bytes()
    for kind in SIMPLE:
        for method in ("POST", "PUT"):
            for path in ("/aperture/config", "/aperture/config:validate"):
                body = b'{"config": "{}"}'
                lines = [f"Content-Type: {kind}", f"Content-Length: {len(body)}", "If-Match: *", "Connection: close"]
                answer = await answers(served, request(f"{method} {path} HTTP/1.1", *lines, body=body))
                assert statuses(answer)[0] in {405, 415}, (kind, method, path, answer)
    assert served.path.read_bytes() == before


async def test_methods_that_stand_for_others_are_not_taken(served, bedrock_sim):
    before = served.path.read_bytes()
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        for path in ("/aperture/config", CONVERSE_PATH):
            await answers(served, request_bytes("GET", f"{path}?_method=PUT", f"{name}: PUT", "If-Match: *"))
    assert served.path.read_bytes() == before
    assert bedrock_sim.requests == []


async def test_a_websocket_of_another_page_is_refused_and_ours_is_none(served):
    upgrade = [
        "Connection: Upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]  # fmt: skip
    for path in ("/ui/", "/api/sessions", "/v1/models", "/metrics", "/aperture/config"):
        for origin in ("https://evil.example", "null", "http://ai:81"):
            data = request(f"GET {path} HTTP/1.1", *upgrade, f"Origin: {origin}", host="ai")
            assert statuses(await answers(served, data)) == [403], path
        own = await answers(served, request(f"GET {path} HTTP/1.1", *upgrade, "Origin: http://ai", host="ai"))
        assert statuses(own) == [200]


async def test_what_is_open_to_any_name_says_nothing_of_the_configuration(served):
    for path in sorted(OPEN):
        answer = await answers(served, request_bytes("GET", path, "Origin: https://evil.example", host="evil.example"))
        assert statuses(answer) == [200]
        assert HAIKU.encode() not in answer
        assert b"loopback" not in answer


async def test_pages_are_shown_in_no_frame_and_run_only_their_own_script(served):
    for path in ("/ui/", "/ui/sessions", f"/ui/sessions/{HAIKU}"):
        answer = (await answers(served, request_bytes("GET", path))).lower()
        assert b"frame-ancestors 'none'" in answer
        assert b"default-src 'none'" in answer
        (nonce,) = re.findall(rb"script-src 'nonce-([\w-]+)'", answer)
        assert re.findall(rb"<script[^>]*>", answer) == [
            b'<script type="module" nonce="%s" src="/ui/static/pages.js?v=%s">'
            % (nonce, ASSETS["pages.js"].version.encode())
        ]
