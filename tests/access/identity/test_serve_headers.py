"""Tests of a listener that trusts the headers that `tailscale serve` adds."""

import json

import pytest

from gateway.access.identity.caller import Caller, Identity
from gateway.access.identity.serve_headers import ServeHeaders
from gateway.contract.errors import PERMISSION, Refused
from gateway.telemetry.log import configure
from tests.helpers.gateway import CAP, Lines

LOGIN = "Tailscale-User-Login"
ALICE = (LOGIN, "alice@example.com")


def asking(*headers):
    return Caller(object(), "", "/run/irisgate.sock", headers)


async def identity_by(*headers, lines=None):
    return await ServeHeaders(configure(lines or Lines()))(asking(*headers))


async def test_a_caller_is_the_user_that_serve_names():
    name = ("Tailscale-User-Name", "Alice")
    assert await identity_by(("Host", "ai"), ALICE, name) == Identity("alice@example.com")


@pytest.mark.parametrize(
    ("value", "login"),
    [
        ("=?utf-8?q?j=C3=BCrgen@example.com?=", "jürgen@example.com"),
        ("=?UTF-8?Q?=E5=BC=A0=E4=BC=9F?= =?utf-8?q?@example.com?=", "张伟@example.com"),
        ("=?utf-8?q?j=C3=BC?=   =?utf-8?b?cmdlbkBhLmI=?=", "jürgen@a.b"),
        ("alice@github", "alice@github"),
    ],
)
async def test_a_login_outside_ascii_is_decoded_by_rfc_2047(value, login):
    assert (await identity_by((LOGIN, value))).login == login


@pytest.mark.parametrize(
    "login",
    [
        "=?utf-8?q?ali?=ce@example.com",
        "=?utf-8?q?alice@example.com?= ",
        "=?utf-8?q?ali?= ce@example.com",
        "ali =?utf-8?q?ce?=",
        "=?utf-8?q?al?==?utf-8?q?ice?=",
        "=?utf-8?q?al?ice?=",
        "=?utf-8?x?alice?=",
        "=?utf-8?q?alice=40example.com?=",
        "=?UTF-8?B?YWxpY2VAZXhhbXBsZS5jb20=?=",
        "=?utf-8?q?ali?= =?utf-8?q?ce?=",
    ],
)
async def test_a_login_of_only_an_encoded_word_is_not_decoded(login):
    """Check that a login that consists of a single encoded word is not decoded.

    The decoded text could be another caller's login.
    """
    assert (await identity_by((LOGIN, login))).login == login


async def test_one_connection_of_serve_carries_many_callers():
    serve = ServeHeaders(configure(Lines()))
    connection = object()
    for name in ("alice", "bob", "alice"):
        caller = Caller(connection, "", "", ((LOGIN, f"{name}@example.com"),))
        assert (await serve(caller)).login == f"{name}@example.com"


async def test_policy_grants_come_with_the_headers_of_serve():
    """Check that grants of the tailnet policy are read from the header that `tailscale serve` is configured to add."""
    caps = ("Tailscale-App-Capabilities", json.dumps({CAP: [{"role": "user"}, {"models": "b/**"}]}))
    capabilities = (await identity_by(ALICE, caps)).capabilities
    assert [(capability.role, capability.models) for capability in capabilities] == [("user", ()), (None, ("b/**",))]


async def test_a_wrong_grant_of_the_policy_gives_nothing_and_is_told():
    lines = Lines()
    caps = ("Tailscale-App-Capabilities", json.dumps({CAP: [{"role": "root"}, {"models": "b/**"}]}))
    capabilities = (await identity_by(ALICE, caps, lines=lines)).capabilities
    assert [capability.models for capability in capabilities] == [("b/**",)]
    assert len(await lines.until("identity.policy_grant_ignored")) == 1


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((LOGIN, ""),),
        (ALICE, ALICE),
        (ALICE, ("tailscale-user-login", "bob@example.com")),
        (ALICE, ("Tailscale_User_Login", "bob@example.com")),
        (("Tailscale_User_Login", "bob@example.com"),),
        (("TAILSCALE-USER_LOGIN", "bob@example.com"),),
        (ALICE, ("Tailscale-User_Name", "x")),
        (ALICE, ("Tailscale-Funnel-Request", "?1")),
        (ALICE, ("tailscale-funnel-request", "")),
        (ALICE, ("Tailscale-Funnel-Request", "?0")),
        (("X-Forwarded-User", "alice@example.com"),),
        (("Tailscale-User-Name", "alice@example.com"),),
        ((LOGIN, "tag:prod"),),
        ((LOGIN, "(loopback)"),),
        ((LOGIN, "*"),),
        ((LOGIN, "group:admins"),),
        ((LOGIN, "tagged-devices"),),
        ((LOGIN, "=?utf-8?q?=ff?="),),
        ((LOGIN, "=?no-such-charset?q?alice?="),),
        ((LOGIN, "=?utf-8?b?!!!!?="),),
        ((LOGIN, "=?utf-8?q?alice=0Abob?="),),
        ((LOGIN, "jürgen@example.com"),),
        ((LOGIN, "a" * 2000),),
        (ALICE, ("Tailscale-App-Capabilities", "{")),
        (ALICE, ("Tailscale-App-Capabilities", "[]")),
    ],
)
async def test_anything_else_is_nobody(headers):
    with pytest.raises(Refused) as refused:
        await identity_by(*headers)
    assert refused.value.problem.code == PERMISSION
