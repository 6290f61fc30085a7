"""Tests of `direct_paths`: which patterns are read, and which faults are reported."""

import json

import pytest

from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.config.sections.direct_paths import direct_pattern
from gateway.config.sections.grant_capabilities import policy_capabilities
from gateway.contract.globs import matches
from gateway.contract.route_paths import METHODS
from tests.helpers.gateway import CAP


def loaded(paths):
    grants = [{"src": ["*"], "app": {CAP: [{"role": "user", "direct_paths": paths}]}}]
    return loads(
        json.dumps(
            {"providers": {"p": {"baseurl": "https://p.test", "models": ["m"], "apikey": "k"}}, "grants": grants}
        )
    )


@pytest.mark.parametrize(
    ("text", "methods", "path"),
    [
        ("/direct/acme/v1/files/*", METHODS, "/direct/acme/v1/files/*"),
        ("GET /direct/acme/**", ["GET"], "/direct/acme/**"),
        ("get,Post  /direct/acme/**", ["GET", "POST"], "/direct/acme/**"),
        ("acme/v1/**", METHODS, "/direct/acme/v1/**"),
        ("/acme/v1/**", METHODS, "/direct/acme/v1/**"),
        ("DELETE **", ["DELETE"], "/direct/**"),
        ("/direct/acme/v1/models/m:batch", METHODS, "/direct/acme/v1/models/m:batch"),
    ],
)
def test_a_pattern_is_a_path_with_methods_before_it(text, methods, path):
    assert direct_pattern(text) == (frozenset(methods), path)


def test_one_pattern_or_a_list_is_read():
    for paths in ("/direct/p/**", ["/direct/p/**"]):
        result = loaded(paths)
        (capability,) = result.config.grants[0].capabilities
        assert [pattern.path for pattern in capability.direct_paths] == ["/direct/p/**"]
        assert not any("direct_paths" in str(finding) for finding in result.warnings)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the path is missing"),
        ("GET ", "the path is missing"),
        ("/direct/", "the path is missing"),
        ("FETCH /direct/p/x", '"FETCH" is not one of the methods GET, POST, PUT, PATCH, DELETE'),
        ("HEAD /direct/p/x", '"HEAD" is not one of the methods'),
        ("/direct/p/../q", '"//", "." or ".."'),
        ("/direct/p//q", '"//", "." or ".."'),
        ("/direct/p/a?b", 'no "?"'),
        ("/direct/p/a%20b", '"%"'),
        ("/direct/p/a#b", '"#"'),
        ("/direct/p/\u00e9", "other letters"),
        ("/direct/p/a b", "is not one of the methods"),
    ],
)
def test_a_pattern_that_could_match_nothing_is_an_error(text, fault):
    with pytest.raises(ConfigError) as error:
        loaded(["/direct/p/**", text])
    (finding,) = map(str, error.value.findings)
    assert "direct_paths" in finding
    assert fault in finding


@pytest.mark.parametrize("value", [7, [7], {"a": 1}, None, True])
def test_a_value_of_another_type_is_an_error(value):
    with pytest.raises(ConfigError, match="direct_paths"):
        loaded(value)


def test_the_tailnet_policy_grants_paths_too():
    (capability,), faults = policy_capabilities({CAP: [{"direct_paths": "GET /direct/p/**"}]})
    assert capability.direct_paths == (direct_pattern("GET /direct/p/**"),)
    assert faults == ()
    given, faults = policy_capabilities({CAP: [{"role": "admin", "direct_paths": "/direct/p/.."}]})
    assert given == ()
    assert len(faults) == 1


def test_a_star_stays_within_a_segment():
    assert matches("/direct/*/v1/files/*", "/direct/p/v1/files/f")
    assert not matches("/direct/*/v1/files/*", "/direct/p/q/v1/files/f")
    assert not matches("/direct/p/v1/files/*", "/direct/p/v1/files/f/content")
