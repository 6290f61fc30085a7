"""Tests of plans. A plan is a cached decision that several calls share.

The tests check which calls share a plan, and that a plan is dropped when the data changes from which it was made.
"""

import json

import pytest

from gateway.access.identity.caller import Identity
from gateway.call.chain import Call, Inbound, chain
from gateway.call.conversion_choice import Conversions
from gateway.call.middleware.order import Order
from gateway.call.middleware.plan import planned
from gateway.call.middleware.route import Route
from gateway.call.responses import Whole
from gateway.call.runtime import runtime
from gateway.call.settlement import reserve
from gateway.config.load import loads
from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest
from gateway.contract.members import Members
from gateway.money.quotas.book import Quotas
from gateway.money.quotas.estimate import measure
from tests.helpers.gateway import HAIKU, NOVA, bedrock
from tests.helpers.own_plugins import discover_own

REGISTRY = discover_own()
ALICE, BOB = Identity("alice@example.com", node="n1"), Identity("bob@example.com", node="n2")
EVERYTHING = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "user"}, {"models": "**"}]}}]
QUOTAS = {"daily:<user>": {"capacity": "$1"}, "host:<node>": {"capacity": "$2"}}
CHARGED = {"models": "**", "quotas": [{"bucket": name} for name in QUOTAS]}
ORDER = Order(None)


def ready(*capabilities, quotas=None, **provider):
    grants = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "user"}, *capabilities]}}]
    document = {"providers": {"b": bedrock("https://x", **provider)}, "grants": grants, "quotas": quotas or {}}
    return runtime(loads(json.dumps(document), plugins=REGISTRY.known).config, REGISTRY)


def new_call(made, identity, model=HAIKU, flag="openai_chat", dialect=""):
    body = Members(b'{"model":"%s"}' % model.encode())
    request = ClientRequest(flag, dialect or flag, "generate", "POST", "/", "", {}, body, model, stream=False)
    return Call(Inbound("req", made, REGISTRY.flags[flag], "generate", "agent", identity), identity, request)


async def done(_call):
    return Whole(200, {}, b"")


CHAIN = chain(planned, ORDER, Route(Conversions(REGISTRY)), last=done)


async def decided(made, identity, model=HAIKU, flag="openai_chat"):
    call = new_call(made, identity, model, flag)
    await CHAIN(call)
    return call


async def test_calls_share_a_plan_that_differ_in_nothing_but_their_bodies():
    made = ready({"models": "**"})
    first, second = await decided(made, ALICE), await decided(made, Identity("alice@example.com", node="n1"))
    assert first.plan is second.plan
    assert first.candidates == second.candidates
    others = [(ALICE, NOVA, "openai_chat"), (ALICE, HAIKU, "anthropic_messages"), (BOB, HAIKU, "openai_chat")]
    for other in others:
        assert (await decided(made, *other)).plan is not first.plan
    assert (await decided(ready({"models": "**"}), ALICE)).plan is not first.plan


async def test_a_refusal_is_decided_anew_so_that_invented_names_fill_no_cache():
    made = ready({"models": f"b/{HAIKU}"})
    for name in (NOVA, "nothing", "nothing else", "x" * 10_000):
        with pytest.raises(Refused, match="not found or not granted"):
            await decided(made, ALICE, name)
    assert made.plans.cache_info().currsize == 0


async def test_each_caller_is_charged_in_buckets_of_its_own():
    made = ready(CHARGED, quotas=QUOTAS)
    quotas = Quotas(keep=lambda _: None)
    quotas.configured(made.config.quotas)
    for identity in (ALICE, BOB, ALICE):
        call = await decided(made, identity)
        reservation, _ = reserve(call, quotas, measure(Members(b"{}"), lambda _: []))
        names = {bucket.name for chain_ in reservation.chains[f"b/{HAIKU}"] for bucket in chain_}
        assert names == {f"daily:{identity.login}", f"host:{identity.node}"}


async def test_quotas_with_new_rules_replace_those_of_a_plan():
    """Check that a call reserves by a quota's present rules, even if its plan (a cached decision) was made from older
    rules.
    """
    made = ready(CHARGED, quotas=QUOTAS)
    quotas = Quotas(keep=lambda _: None)
    for capacity in ("$1", "$5", "$3"):
        newer = ready(CHARGED, quotas=QUOTAS | {"daily:<user>": {"capacity": capacity}})
        quotas.configured(newer.config.quotas)
        call = await decided(made, ALICE)
        reservation, _ = reserve(call, quotas, measure(Members(b"{}"), lambda _: []))
        rules = {name: bucket.rule for held in reservation.held.values() for name, bucket, _ in held.parts}
        assert rules[f"daily:{ALICE.login}"] == newer.config.quotas["daily:<user>"].rule
        reservation.release()


async def test_headers_of_grants_and_providers_have_their_precedence():
    """Check that a header in the provider's configuration replaces a grant's header of the same name.

    Upper and lower case make no difference.
    """
    given = {"models": "**", "add_headers": ["X-Team: grant", "X-Only: grant"]}
    made = ready(given, add_headers=["x-team: provider"])
    plan = (await decided(made, ALICE)).plan
    assert plan.headers[f"b/{HAIKU}"] == {"x-team": "provider", "x-only": "grant"}
    assert "grant" not in repr(plan)


async def test_without_a_conversion_the_refusal_names_the_flag_to_enable():
    made = ready({"models": "**"}, compatibility={"openai_chat": True})
    expected = (
        "cannot serve model .* to clients of bedrock_model_invoke; if the provider has the API of bedrock_model_invoke, "
        'set "bedrock_model_invoke": true'
    )
    with pytest.raises(Refused, match=expected):
        await CHAIN(new_call(made, ALICE, flag="bedrock_model_invoke", dialect="opaque"))
