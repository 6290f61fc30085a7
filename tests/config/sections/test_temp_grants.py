"""Tests of `temp_grants`. The section has two forms. The grants of both forms are added after those of the section
`grants`.
"""

import pytest

from gateway.config.load import loads
from tests.config.examples import config, warnings

CAP = "tailscale.com/cap/aperture"


def grants(*temp):
    return loads(config(temp_grants=list(temp))).config.grants[1:]


def test_capabilities_in_a_list_are_those_of_a_grant():
    (grant,) = grants({"src": ["a"], "grants": [{"role": "admin"}, {"models": "p/*", "read_metrics": True}]})
    assert grant.src == ("a",)
    assert [(item.role, item.models, item.permissions) for item in grant.capabilities] == [
        ("admin", (), frozenset()),
        (None, ("p/*",), {"read_metrics"}),
    ]


@pytest.mark.parametrize(
    ("named", "pattern"),
    [
        ({"provider": "p", "model": "m"}, "p/m"),
        ({"provider": "p", "model": "a/b"}, "p/a/b"),
        ({"provider": "p"}, "p/**"),
        ({"model": "m"}, "*/m"),
        ({}, "*/**"),
    ],
)
def test_models_of_a_provider_become_a_pattern(named, pattern):
    (grant,) = grants({"src": ["a"], "grants": [{"providers": [named, {"provider": "p", "model": "z"}]}]})
    assert [item.models for item in grant.capabilities] == [(pattern, "p/z")]


def test_the_later_generation_is_written_as_a_grant():
    (grant,) = grants({"src": ["a"], "app": {CAP: [{"role": "user"}]}})
    assert [item.role for item in grant.capabilities] == ["user"]


def test_both_come_after_the_grants_in_their_order():
    grants = loads(config(temp_grants=[{"src": ["x"], "grants": [{}]}, {"src": ["y"], "app": {}}])).config.grants
    assert [grant.src for grant in grants] == [("*",), ("x",), ("y",)]


def test_an_administrator_may_be_one_by_an_old_grant():
    assert not any(
        "role:admin" in warning
        for warning in warnings(config(grants=[], temp_grants=[{"src": ["x"], "grants": [{"role": "admin"}]}]))
    )


def test_a_grant_for_nobody_makes_no_administrator():
    assert any(
        "role:admin" in warning for warning in warnings(config(grants=[{"src": [], "app": {CAP: [{"role": "admin"}]}}]))
    )
