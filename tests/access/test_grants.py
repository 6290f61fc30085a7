"""Tests of grants: which callers and which models they match, and what they allow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants import MAX_CALLERS, MAX_MODELS, Grants, Patterns, sources
from gateway.access.identity.caller import LOOPBACK, Identity
from gateway.config.model import Capability, Grant
from gateway.contract.globs import covers_provider, matches
from tests.helpers.cpu_time import cpu_units

ROOT = Path(__file__).resolve().parents[2]
ALICE = Identity("alice@example.com", groups=("group:eng", "team@example.com", "ops"))
API = Identity("tag:api", tags=("tag:api",))
BOTH = Identity("tag:api,tag:prod", tags=("tag:prod", "tag:api"))
USER, ADMIN = Capability(role="user"), Capability(role="admin")


@pytest.mark.parametrize(
    ("source", "identity", "expected"),
    [
        ("*", ALICE, True),
        ("*", BOTH, True),
        ("*", LOOPBACK, True),
        ("(loopback)", LOOPBACK, True),
        ("(loopback)", ALICE, False),
        ("alice@example.com", ALICE, True),
        ("Alice@example.com", ALICE, False),
        ("alice@*", ALICE, False),
        ("group:eng", ALICE, True),
        ("group:ops", ALICE, True),
        ("group:sales", ALICE, False),
        ("team@example.com", ALICE, True),
        ("group:eng", API, False),
        ("tag:api", API, True),
        ("tag:api", BOTH, False),
        ("tag:prod", BOTH, False),
        ("tag:api,tag:prod", BOTH, True),
        ("tag:prod,tag:api", BOTH, False),
        ("tag:api,tag:prod", API, False),
        ("tag:ci", Identity("robot", tags=("tag:ci",)), True),
        ("tag:ci", Identity("robot", tags=("tag:ci", "tag:x")), False),
        ("", ALICE, False),
    ],
)
def test_a_source_matches_a_caller(source: str, identity: Identity, expected: bool) -> None:
    assert (source in sources(identity)) is expected


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("**", "p/m", True),
        ("**", "p/a/b", True),
        ("*", "p/m", False),
        ("*/*", "p/m", True),
        ("*/*", "p/a/b", False),
        ("p/*", "p/m", True),
        ("p/*", "q/m", False),
        ("p/*", "p/a/b", False),
        ("p/**", "p/a/b", True),
        ("p/**", "p/m:0", True),
        ("p/**", "pp/m", False),
        ("p/m", "p/m", True),
        ("p/m", "p/m2", False),
        ("p/m", "P/m", False),
        ("**/m", "p/m", True),
        ("**/m", "p/a/m", True),
        ("**/m", "p/am", False),
        ("p/**/c", "p/c", True),
        ("p/**/c", "p/a/b/c", True),
        ("p/**/c", "p/a/b", False),
        ("p*/us.anthropic.*", "p-us/us.anthropic.claude-v1:0", True),
        ("p/us.anthropic.*", "p/eu.anthropic.claude", False),
        ("p/*haiku*", "p/us.anthropic.claude-haiku-4-5", True),
        ("p/arn:**", "p/arn:aws:bedrock:us-east-1:1:profile/x", False),
        ("p/arn:*/*", "p/arn:aws:bedrock:us-east-1:1:profile/x", True),
        ("p/a.c", "p/abc", False),
        ("p/[ab]", "p/a", False),
        ("p/?", "p/a", False),
        ("", "p/m", False),
    ],
)
def test_a_glob_matches_a_model(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_no_pattern_makes_matching_slow() -> None:
    pattern, name = "/".join(["**", "*a*a*a*a*b"] * 12), "/".join(["a" * 40] * 40)
    assert not matches(pattern, name)
    assert cpu_units(lambda: matches(pattern, name), enough=650) < 650


@pytest.mark.parametrize(
    ("pattern", "provider", "expected"),
    [
        ("**", "p", True),
        ("**/m", "p", True),
        ("p/x", "p", True),
        ("b*/x", "bedrock-us", True),
        ("q/x", "p", False),
        ("*", "p", False),
    ],
)
def test_a_pattern_covers_a_provider(pattern: str, provider: str, expected: bool) -> None:
    assert covers_provider(pattern, provider) is expected


def test_without_grants_everything_is_denied() -> None:
    grants = Grants((), ["p"])
    assert grants.access(ALICE).role is None
    assert not grants.access(ALICE).allows("p", "m")
    assert "read_metrics" not in grants.access(ALICE).permissions


def test_admin_outranks_user() -> None:
    grants = Grants([Grant(("*",), (USER,)), Grant(("alice@example.com",), (ADMIN, USER))], ["p"])
    assert grants.access(ALICE).role == "admin"
    assert grants.access(API).role == "user"


def test_a_role_and_a_pattern_may_come_from_different_grants() -> None:
    models = Capability(models=("p/*",))
    grants = Grants([Grant(("*",), (models,)), Grant(("tag:api",), (USER,))], ["p"])
    assert grants.access(API).allows("p", "m")
    assert not grants.access(ALICE).allows("p", "m")


def test_a_role_alone_gives_no_model() -> None:
    assert not Grants([Grant(("*",), (ADMIN,))], ["p"]).access(ALICE).allows("p", "m")


def test_a_model_of_a_provider_that_is_not_declared_is_not_allowed() -> None:
    grants = Grants([Grant(("*",), (USER, Capability(models=("**",))))], ["p"])
    assert grants.access(ALICE).allows("p", "m")
    assert not grants.access(ALICE).allows("q", "m")


def test_no_role_implies_a_permission() -> None:
    scraper = Capability(permissions=frozenset({"read_metrics"}))
    grants = Grants([Grant(("*",), (ADMIN,)), Grant(("tag:api",), (scraper,))], ["p"])
    assert "read_metrics" in grants.access(API).permissions
    assert "read_pricing" not in grants.access(API).permissions
    assert "read_metrics" not in grants.access(ALICE).permissions


def test_no_role_lets_its_caller_filter_by_a_header() -> None:
    team, every = Capability(filterable_headers=("x-team",)), Capability(filterable_headers=("*",))
    grants = Grants([Grant(("*",), (ADMIN,)), Grant(("tag:api",), (team,)), Grant((ALICE.login,), (every,))], ["p"])
    assert [grants.access(API).may_filter_by(name) for name in ("x-team", "x-project")] == [True, False]
    assert grants.access(ALICE).may_filter_by("x-project")
    assert not grants.access(Identity("carol@example.com")).may_filter_by("x-team")


def test_what_is_remembered_is_bounded() -> None:
    grants = Grants([Grant(("*",), (Capability(quotas=(("team",),)),))], ["p"])
    for number in range(MAX_CALLERS + 50):
        grants.access(Identity(f"user{number}@example.com"))
    access = grants.access(ALICE)
    for number in range(MAX_MODELS + 50):
        assert access.quotas("p", f"m{number}") == (("team",),)
    assert grants._access.cache_info().currsize == MAX_CALLERS
    assert access._terms.cache_info().currsize == MAX_MODELS


@given(
    st.lists(st.text("ab*/", min_size=1, max_size=6), max_size=6),
    st.from_regex(r"[ab]{1,2}(/[ab]{1,2}){1,3}", fullmatch=True),
)
def test_patterns_together_match_what_any_of_them_matches(patterns: list[str], name: str) -> None:
    assert Patterns(patterns).match(name) is any(matches(pattern, name) for pattern in patterns)


def test_a_configuration_is_read_without_what_knows_of_callers() -> None:
    """Check that reading a configuration does not import the modules for grants and identities."""
    code = "import sys, gateway.config.load; print(sorted({'gateway.access.grants', 'gateway.access.identity.caller'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
