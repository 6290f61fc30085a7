"""Tests of explanations of direct requests: who may send them, by which pattern, and which grant is missing."""

import json

import pytest

from gateway.call.explain.direct import NoSuchRequest, direct_text, explain_direct, own_direct_view
from gateway.call.explain.explain import somebody
from gateway.call.runtime import runtime
from gateway.config.load import loads
from tests.helpers.gateway import CAP, gate
from tests.helpers.processes import irisgate

ADA, BOB, EVE, ROOT = "ada@example.com", "bob@example.com", "eve@example.com", "root@example.com"
CONFIG = {
    "providers": {
        "acme": {"baseurl": "https://acme.test", "apikey": "k", "models": ["m"]},
        "off": {"baseurl": "https://off.test", "apikey": "k", "models": ["m"], "disabled": True},
    },
    "grants": [
        {
            "src": [ADA],
            "app": {CAP: [{"role": "user", "direct_paths": ["GET /direct/acme/v1/files/*", "/direct/off/**"]}]},
        },
        {"src": [BOB], "app": {CAP: [{"direct_paths": "/direct/acme/**"}]}},
        {"src": [ROOT], "app": {CAP: [{"role": "admin"}]}},
    ],
}


@pytest.fixture(scope="module")
def current():
    return runtime(loads(json.dumps(CONFIG)).config)


def reason(current, login, request, function=explain_direct):
    made = function(current, somebody(login), request)
    assert made.allowed is (made.reason == "granted")
    return made.reason


@pytest.mark.parametrize(
    ("login", "request_", "whole", "own"),
    [
        (ADA, "GET /direct/acme/v1/files/f", "granted", "granted"),
        (ADA, "get /direct/acme/v1/files/f?x=1", "granted", "granted"),
        (ADA, "POST /direct/acme/v1/files/f", "not_granted", "not_granted"),
        (ADA, "GET /direct/acme/v1/files/a%2Fb", "not_granted", "not_granted"),
        (ADA, "GET /direct/acme/v1/../x", "not_clear", "not_clear"),
        (ADA, "GET /direct/off/x", "unknown", "unknown"),
        (ADA, "GET /direct/nobody/x", "unknown", "not_granted"),
        (BOB, "GET /direct/acme/x", "no_role", "no_role"),
        (EVE, "GET /direct/acme/x", "no_role", "no_role"),
        (EVE, "GET /direct/nobody/x", "unknown", "no_role"),
        (ROOT, "DELETE /direct/acme/anything", "granted", "granted"),
        (ROOT, "DELETE /direct/off/anything", "unknown", "not_granted"),
    ],
)
def test_the_decision_is_that_of_the_call(current, login, request_, whole, own):
    assert reason(current, login, request_) == whole
    assert reason(current, login, request_, own_direct_view) == own


@pytest.mark.parametrize(
    ("login", "request_"),
    [(ADA, "POST /direct/acme/v1/files/f"), (ADA, "GET /direct/acme/a%2Fb"), (EVE, "PUT /direct/acme/v1/caf%C3%A9")],
)
def test_the_missing_grant_is_one_that_helps(current, login, request_):
    made = explain_direct(current, somebody(login), request_)
    grants = [*CONFIG["grants"], json.loads(made.grant)]
    after = runtime(loads(json.dumps({**CONFIG, "grants": grants})).config)
    assert reason(after, login, request_) == "granted"
    assert reason(after, login, "DELETE /direct/acme/other") != "granted"


@pytest.mark.parametrize(
    "request_", ["", "GET", "/direct/acme/x", "FETCH /direct/acme/x", "GET /v1/models", "GET direct/acme"]
)
def test_what_is_no_request_is_a_mistake(current, request_):
    with pytest.raises(NoSuchRequest, match='such as "GET /direct/acme/v1/files"'):
        explain_direct(current, somebody(ADA), request_)


def test_a_caller_learns_no_places_and_no_grant(current):
    made = own_direct_view(current, somebody(ADA), "GET /direct/acme/v1/files/f")
    assert [(each.pattern, each.origin) for each in made.by] == [
        ("GET /direct/acme/v1/files/*", 'grants[0].app."' + CAP + '"[0]')
    ]
    refused = own_direct_view(current, somebody(ADA), "PUT /direct/acme/x")
    assert (refused.grant, refused.fault) == ("", "")
    assert "administrator" in refused.note


def test_the_text_names_pattern_and_grant(current):
    assert '"GET /direct/acme/v1/files/*" by grants[0]' in direct_text(
        explain_direct(current, somebody(ADA), "GET /direct/acme/v1/files/f")
    )
    lines = direct_text(explain_direct(current, somebody(ADA), "PUT /direct/acme/x")).splitlines()
    assert lines[0] == f"{ADA} may not send PUT /direct/acme/x: no grant covers it"
    assert '"direct_paths": "PUT /direct/acme/x"' in lines[-2] + lines[-1] + "".join(lines)


async def test_the_command_answers_for_a_request(tmp_path):
    (tmp_path / "config.hujson").write_text(json.dumps(CONFIG))
    command = ("explain", "--config", "config.hujson", "--as", ADA)
    status, out, _ = await irisgate(tmp_path, *command, "--direct", "GET /direct/acme/v1/files/f")
    assert (status, out.splitlines()[0]) == (0, f"{ADA} may send GET /direct/acme/v1/files/f")
    status, out, _ = await irisgate(tmp_path, *command, "--direct", "POST /direct/acme/x", "--json")
    assert (status, json.loads(out)["reason"]) == (1, "not_granted")
    status, _, error = await irisgate(tmp_path, *command, "--direct", "nonsense")
    assert (status, "--direct: write a method and a path" in error) == (2, True)
    assert (await irisgate(tmp_path, *command))[0] == 2


async def test_the_api_and_the_page_answer_for_a_request(tmp_path):
    async with gate(tmp_path, CONFIG["providers"]) as gw:
        about = {"as": ADA, "direct": "POST /direct/acme/v1/files"}
        reply = await gw.get("/api/explain", params=about)
        assert (reply.status, (await reply.json())["reason"]) == (200, "granted")  # everybody is an admin here
        assert (await gw.get("/api/explain", params={"direct": "nonsense"})).status == 400
        page = await (await gw.get("/ui/access", params=about)).text()
        assert "POST /direct/acme/v1/files" in page
        assert "A grant or the role admin covers the request." in page
        page = await (await gw.get("/ui/access", params={"direct": "nonsense"})).text()
        assert "write a method and a path" in page
    own = [{"src": ["*"], "app": {CAP: [{"role": "user"}]}}]
    async with gate(tmp_path, CONFIG["providers"], grants=own) as gw:
        body = await (await gw.get("/api/explain", params={"direct": "GET /direct/nobody/x"})).json()
        assert (body["reason"], body["fault"], body["grant"]) == ("not_granted", "", "")
        assert (await gw.get("/api/explain", params={"as": "x@example.com", "direct": "GET /direct/a/b"})).status == 403
