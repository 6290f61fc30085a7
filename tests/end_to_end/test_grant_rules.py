"""Tests of every rule of grants. A table has grants, a caller, a request, and the expected status and error."""

import json
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User
from tests.helpers.gateway import CAP, HAIKU, NOVA, SONNET, bedrock, gate
from tests.helpers.raw_http import Raw

OWN = "irisgate.dev/cap/irisgate"
SLASHED = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
NO_ROLE = "access denied: no role granted"


def absent(model):
    return f'model "{model}" not found or not granted'


NODES = {
    "alice": Node("a.example.ts.net", ("100.64.0.10",), User("alice@example.com", ("group:eng", "team@example.com"))),
    "bob": Node("b.example.ts.net", ("100.64.0.11",), User("bob@example.com")),
    "api": Node("c.example.ts.net", ("100.64.0.12",), tags=("tag:api",)),
    "both": Node("d.example.ts.net", ("100.64.0.13",), tags=("tag:prod", "tag:api")),
    "policy user": Node("e.example.ts.net", ("100.64.0.14",), User("p@example.com"), caps={CAP: [{"role": "user"}]}),
    "policy all": Node(
        "f.example.ts.net", ("100.64.0.15",), User("q@example.com"), caps={OWN: [{"role": "user"}, {"models": "**"}]}
    ),
    "policy broken": Node(
        "g.example.ts.net",
        ("100.64.0.16",),
        User("r@example.com"),
        caps={CAP: [{"role": "emperor"}, 7, {"role": "user"}, {"models": 5}, {"models": f"b/{HAIKU}"}]},
    ),
    "policy other": Node(
        "h.example.ts.net", ("100.64.0.17",), User("s@example.com"), caps={"x.y/z": [{"role": "user"}]}
    ),
}


def grant(src, *capabilities, app=CAP):
    return {"src": [src] if isinstance(src, str) else src, "app": {app: list(capabilities)}}


USER, ADMIN, ALL = {"role": "user"}, {"role": "admin"}, {"models": "**"}
EVERYONE = grant("*", USER, ALL)


class Rule(NamedTuple):
    says: str
    grants: list
    who: str
    asks: str
    """The model or the path that is requested."""
    status: int
    error: str = ""


RULES = [
    Rule("nothing is granted without a grant", [], "alice", HAIKU, 403, NO_ROLE),
    Rule("a model without a role is nothing", [grant("*", ALL)], "alice", HAIKU, 403, NO_ROLE),
    Rule("a role without a model is nothing", [grant("*", USER)], "alice", HAIKU, 404, absent(HAIKU)),
    Rule("an admin needs models as well", [grant("*", ADMIN)], "alice", HAIKU, 404, absent(HAIKU)),
    Rule("a role and a model are enough", [EVERYONE], "alice", HAIKU, 200),
    Rule("they may stand in one object", [grant("*", {"role": "user", "models": "**"})], "alice", HAIKU, 200),
    Rule("or in two grants", [grant("*", USER), grant("alice@example.com", ALL)], "alice", HAIKU, 200),
    Rule("or under two names", [grant("*", USER), grant("*", ALL, app=OWN)], "alice", HAIKU, 200),
    Rule("another capability's name is nothing", [grant("*", USER, ALL, app="x.y/z")], "alice", HAIKU, 403, NO_ROLE),
    Rule("a grant without sources is nobody's", [grant([], USER, ALL)], "alice", HAIKU, 403, NO_ROLE),
    Rule("a login is one person", [grant("alice@example.com", USER, ALL)], "bob", HAIKU, 403, NO_ROLE),
    Rule("one of several sources is enough", [grant(["x", "bob@example.com"], USER, ALL)], "bob", HAIKU, 200),
    Rule("letters' case counts", [grant("Alice@example.com", USER, ALL)], "alice", HAIKU, 403, NO_ROLE),
    Rule("a source is no glob", [grant("alice@*", USER, ALL)], "alice", HAIKU, 403, NO_ROLE),
    Rule("a group's member", [grant("group:eng", USER, ALL)], "alice", HAIKU, 200),
    Rule("a group with a mail address", [grant("team@example.com", USER, ALL)], "alice", HAIKU, 200),
    Rule("not a group's member", [grant("group:eng", USER, ALL)], "bob", HAIKU, 403, NO_ROLE),
    Rule("a tag", [grant("tag:api", USER, ALL)], "api", HAIKU, 200),
    Rule("one tag of two is another source", [grant("tag:api", USER, ALL)], "both", HAIKU, 403, NO_ROLE),
    Rule("two tags, sorted", [grant("tag:api,tag:prod", USER, ALL)], "both", HAIKU, 200),
    Rule("two tags, not sorted", [grant("tag:prod,tag:api", USER, ALL)], "both", HAIKU, 403, NO_ROLE),
    Rule("a tagged node is no user", [grant("tagged-devices", USER, ALL)], "api", HAIKU, 403, NO_ROLE),
    Rule("this machine", [grant("(loopback)", USER, ALL)], "here", HAIKU, 200),
    Rule("this machine is not the tailnet", [grant("(loopback)", USER, ALL)], "alice", HAIKU, 403, NO_ROLE),
    Rule("everyone is this machine too", [EVERYONE], "here", HAIKU, 200),
    Rule("one model", [grant("*", USER, {"models": f"b/{HAIKU}"})], "alice", HAIKU, 200),
    Rule("not another", [grant("*", USER, {"models": f"b/{HAIKU}"})], "alice", NOVA, 404, absent(NOVA)),
    Rule("a star stays in its segment", [grant("*", USER, {"models": "b/*"})], "alice", SLASHED, 404, absent(SLASHED)),
    Rule("a star within a segment", [grant("*", USER, {"models": "b/us.anthropic.*"})], "alice", SONNET, 200),
    Rule("two stars cross segments", [grant("*", USER, {"models": "b/**"})], "alice", SLASHED, 200),
    Rule("two stars in the middle", [grant("*", USER, {"models": "b/**/abc"})], "alice", SLASHED, 200),
    Rule("a star for the provider", [grant("*", USER, {"models": f"*/{HAIKU}"})], "alice", HAIKU, 200),
    Rule("another provider", [grant("*", USER, {"models": "c/**"})], "alice", HAIKU, 404, absent(HAIKU)),
    Rule("a pattern without a provider", [grant("*", USER, {"models": HAIKU})], "alice", HAIKU, 404, absent(HAIKU)),
    Rule("a list of patterns", [grant("*", USER, {"models": ["b/x", f"b/{NOVA}"]})], "alice", NOVA, 200),
    Rule("grants only add", [EVERYONE, grant("*", {"models": "b/x"})], "alice", NOVA, 200),
    Rule("an admin is a user as well", [grant("*", ADMIN, ALL), grant("*", USER)], "alice", HAIKU, 200),
    Rule("a name with its provider", [EVERYONE], "alice", f"b/{HAIKU}", 200),
    Rule("what is not there looks as what is not granted", [EVERYONE], "alice", "gpt-9", 404, absent("gpt-9")),
    Rule("a disabled provider's model is not there", [EVERYONE], "alice", "off-model", 404, absent("off-model")),
    Rule("nor under the provider's name", [EVERYONE], "alice", "off/off-model", 404, absent("off/off-model")),
    Rule(
        "metrics need to be granted", [grant("*", ADMIN, ALL)], "alice", "/metrics", 403, "access denied: no grant says"
    ),
    Rule("and need no role", [grant("tag:api", {"read_metrics": True})], "api", "/metrics", 200),
    Rule("a permission that is false is none", [grant("*", {"read_metrics": False})], "api", "/metrics", 403, "access"),
    Rule("lists need a role", [grant("*", ALL)], "alice", "/v1/models", 403, NO_ROLE),
    Rule("and are empty without models", [grant("*", USER)], "alice", "/v1/models", 200),
    Rule("sessions need a role", [], "alice", "/api/sessions", 403, "access denied"),
    Rule("health needs nothing", [], "alice", "/healthz", 200),
    Rule("a role by the tailnet policy", [grant("*", ALL)], "policy user", HAIKU, 200),
    Rule("all by the tailnet policy", [], "policy all", HAIKU, 200),
    Rule("what is wrong in the policy gives nothing, the rest counts", [], "policy broken", HAIKU, 200),
    Rule("and no more than that", [], "policy broken", NOVA, 404, absent(NOVA)),
    Rule("another capability of the policy is nothing", [], "policy other", HAIKU, 403, NO_ROLE),
]


@pytest.fixture
async def tailnet(tmp_path):
    async with LocalApiSim(tmp_path / "tailscaled.sock") as running:
        # nobody registers late here
        running.late_seconds = 0
        for node in NODES.values():
            running.add(node)
        yield running


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.says)
async def test_a_rule_of_the_grants(rule, tmp_path, bedrock_sim, tailnet):
    listeners = [
        {"listen": "127.0.0.1:0"},
        {"listen": "127.0.0.2:0", "identity": "proxy-protocol", "tailscaled": str(tailnet.path)},
    ]
    providers = {
        "b": bedrock(bedrock_sim.url, models=(HAIKU, SONNET, NOVA, SLASHED)),
        "off": bedrock(bedrock_sim.url, models=("off-model",), disabled=True),
    }
    async with gate(tmp_path, providers, grants=rule.grants, server={"listeners": listeners}) as running:
        here = rule.who == "here"
        place = urlsplit(running.running.urls[0 if here else 1])
        first = b"" if here else f"PROXY TCP4 {NODES[rule.who].addresses[0]} 127.0.0.1 4711 80\r\n".encode()
        raw = await Raw.open(place.hostname, place.port, first=first)
        if rule.asks.startswith("/"):
            status, _, body = await raw.ask(rule.asks)
        else:
            message = {"model": rule.asks, "messages": [{"role": "user", "content": "hello"}]}
            status, _, body = await raw.ask("/v1/chat/completions", message)
        assert status == rule.status
        if rule.error:
            answer = json.loads(body)["error"]
            assert (answer if isinstance(answer, str) else answer["message"]).startswith(rule.error)
        assert bool(bedrock_sim.requests) == (status == 200 and not rule.asks.startswith("/"))


@pytest.mark.parametrize(
    ("path", "body", "role", "model"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "hello"}]},
            {"error": {"message": NO_ROLE, "type": "permission_error", "param": None, "code": "permission_denied"}},
            {"error": {"code": "model_not_found", "param": "model"}},
        ),
        (
            "/v1/messages",
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]},
            {"type": "error", "error": {"type": "permission_error", "message": NO_ROLE}},
            {"type": "error", "error": {"type": "not_found_error"}},
        ),
        (
            "/bedrock/model/{}/converse",
            {"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
            {"message": NO_ROLE},
            {},
        ),
        (
            "/bedrock/model/{}/invoke",
            {"max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]},
            {"message": NO_ROLE},
            {},
        ),
    ],
)
async def test_a_refusal_is_said_in_the_clients_dialect(path, body, role, model, tmp_path, bedrock_sim):
    listeners = [{"listen": f"unix:{tmp_path}/serve.sock", "identity": "serve-headers"}]
    grants = [grant("bob@example.com", USER)]
    async with gate(tmp_path, {"b": bedrock(bedrock_sim.url)}, grants=grants, server={"listeners": listeners}):
        raw = await Raw.unix(tmp_path / "serve.sock")
        for who, status, name, expected in (
            ("alice", 403, "AccessDeniedException", role),
            ("bob", 404, "ResourceNotFoundException", model),
        ):
            request = body if "{}" in path else {**body, "model": HAIKU}
            headers = [("Tailscale-User-Login", f"{who}@example.com")]
            code, fields, data = await raw.ask(path.format(HAIKU), request, headers=headers)
            assert (code, fields.get("x-amzn-errortype", name)) == (status, name)
            assert holds(json.loads(data), expected), data
        assert bedrock_sim.requests == []


def holds(whole, part):
    """Return whether all fields in `part` are also in `whole`."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and holds(whole[name], part[name]) for name in part)
    return whole == part
