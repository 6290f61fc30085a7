"""Tests of the quotas and limits in grants, and of the buckets to which a caller's calls are charged."""

import pytest

from gateway.access.grants import Grants
from gateway.access.identity.caller import Identity
from gateway.config.model import Capability, Grant
from gateway.money.quotas.book import Quotas, UnknownBucket
from gateway.money.quotas.definitions import Quota, RateLimit, bucket_of

ALICE = Identity("alice@example.com", node="n1")
LIMIT = RateLimit("requests", 60, 60, "60/min", by_model=False)
QUOTAS = {name: Quota(name, 100) for name in ("team", "daily:<user>", "at:<node>")}


def granted(*capabilities, identity=ALICE):
    return Grants([Grant(("*",), capabilities)], ["p"]), identity


def test_every_capability_that_speaks_of_the_model_adds_its_quotas_once():
    grants, alice = granted(
        Capability(quotas=(("team",),)),
        Capability(models=("p/a*",), quotas=(("daily:<user>",), ("team",))),
        Capability(models=("p/b*",), quotas=(("at:<node>",),)),
    )
    assert grants.access(alice).quotas("p", "a1") == (("team",), ("daily:<user>",))
    assert grants.access(alice).quotas("p", "b1") == (("team",), ("at:<node>",))


def test_limits_come_with_the_models_that_they_were_granted_for():
    grants, alice = granted(Capability(models=("p/a*",), rate_limits=(LIMIT,)))
    assert grants.access(alice).rate_limits("p", "a1") == ((LIMIT, ("p/a*",)),)
    assert grants.access(alice).rate_limits("p", "b1") == ()


def test_the_tailnet_policy_adds_its_own():
    grants, alice = granted(identity=Identity("a", capabilities=(Capability(quotas=(("team",),)),)))
    assert grants.access(alice).quotas("p", "m") == (("team",),)
    assert grants.access(alice).metered
    assert not grants.access(ALICE).metered


@pytest.mark.parametrize(
    ("name", "identity", "bucket"),
    [
        ("team", ALICE, "team"),
        ("daily:<user>", ALICE, "daily:alice@example.com"),
        ("daily:<user>", Identity("tag:api,tag:prod", tags=("tag:api",)), "daily:tag:api,tag:prod"),
        ("at:<node>", ALICE, "at:n1"),
        ("at:<node>", Identity("(loopback)"), "at:(loopback)"),
    ],
)
def test_a_template_makes_a_bucket_for_each_of_them(name, identity, bucket):
    assert bucket_of(name, identity.login, identity.node) == bucket


@pytest.mark.parametrize(
    ("bucket", "definition"),
    [
        ("team", "team"),
        ("daily:bob@example.com", "daily:<user>"),
        ("daily:tag:a,tag:b", "daily:<user>"),
        ("at:n9", "at:<node>"),
        ("daily:", None),
        ("teams", None),
        ("", None),
    ],
)
def test_a_buckets_name_leads_back_to_its_definition(bucket, definition):
    book = Quotas()
    book.configured(QUOTAS)
    rule = book.rule_of(bucket)
    assert (rule and rule.name) == definition


def test_a_refill_of_what_no_definition_makes_is_refused():
    book = Quotas()
    book.configured(QUOTAS)
    with pytest.raises(UnknownBucket):
        book.refill("weekly:bob", 1)


def test_every_refill_is_told_so_that_it_can_be_kept():
    refills = []
    book = Quotas(clock=lambda: 5_000_000_000, keep=refills.extend)
    book.configured(QUOTAS)
    book.restore([_Kept("team", 40)])
    book.refill("team", 10)
    assert [charge.left for charge in refills] == [("team", 50, 0, 5.0, "100 0/1000000000")]


def test_what_was_kept_of_a_definition_that_is_gone_is_left_out():
    book = Quotas(clock=lambda: 0)
    book.configured(QUOTAS)
    book.restore([_Kept("weekly:bob", 40), _Kept("daily:bob", 40)])
    assert [(level.bucket, level.balance) for level in book.levels()] == [("daily:bob", 40)]


def test_what_was_kept_waits_for_its_definition_to_come_back():
    book = Quotas(clock=lambda: 0)
    book.configured({})
    book.restore([_Kept("weekly:bob", 40)])
    book.configured(QUOTAS)
    book.configured({"weekly:<user>": Quota("weekly:<user>", 100)})
    assert [(level.bucket, level.balance) for level in book.levels()] == [("weekly:bob", 40)]


def test_a_template_that_begins_as_another_one_keeps_its_own_buckets():
    book = Quotas(clock=lambda: 0)
    book.configured({name: Quota(name, 100) for name in ("team:<user>", "team:eu:<user>")})
    book.restore([_Kept("team:eu:bob", 40)])
    assert [level.rule.name for level in book.levels()] == ["team:eu:<user>"]


def test_metrics_have_a_level_for_every_definition():
    book = Quotas(clock=lambda: 0)
    book.configured(QUOTAS)
    book.restore([_Kept("daily:bob", 40), _Kept("daily:eve", 90)])
    assert book.used() == {"team": 0.0, "daily:<user>": 0.6, "at:<node>": 0.0}


class _Kept:
    remainder, at, terms = 0, 0.0, ""

    def __init__(self, bucket, amount):
        self.bucket, self.amount = bucket, amount
