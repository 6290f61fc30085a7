"""Tests of the section `resilience` and of `timeouts` of a provider: defaults, overrides and findings."""

import json

import pytest

from gateway.config.findings import ConfigError
from gateway.config.load import loads
from gateway.config.model import Timeouts

PROVIDER = {"baseurl": "http://127.0.0.1:9", "models": ["m"], "compatibility": {"openai_chat": True}}


def config(resilience, **provider):
    return loads(json.dumps({"providers": {"p": PROVIDER | provider}, "resilience": resilience}))


def test_failover_is_on_with_limits():
    settings = config({}).config.resilience
    assert (settings.failover, settings.max_attempts, settings.total_seconds) == (True, 3, 600)
    assert (settings.retry_budget, settings.retry_after_seconds) == (0.1, 0)


def test_every_limit_is_read():
    wanted = {
        "failover": False, "max_attempts": 5, "total_seconds": 30.5, "retry_budget": 0.25, "retry_after_seconds": 4,
    }  # fmt: skip
    loaded = config(wanted)
    assert [finding for finding in loaded.warnings if finding.path.startswith("resilience")] == []
    assert {name: getattr(loaded.config.resilience, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("failover", "yes", "true or false"),
        ("max_attempts", 0, "at least 1"),
        ("max_attempts", 11, "at most 10"),
        ("max_attempts", 2.5, "whole number"),
        ("total_seconds", 0, "greater than 0"),
        ("retry_budget", 1.1, "at most 1"),
        ("retry_budget", -0.1, "at least 0"),
        ("retry_after_seconds", 601, "at most 600"),
    ],
)
def test_a_limit_outside_its_range_is_named(key, value, fault):
    with pytest.raises(ConfigError) as caught:
        config({key: value})
    assert f"resilience.{key}: " in str(caught.value)
    assert fault in str(caught.value)


def test_a_provider_overrides_some_timeouts():
    loaded = config({"timeouts": {"read_seconds": 7, "head_seconds": 8}}, timeouts={"head_seconds": 9})
    assert loaded.config.providers["p"].timeouts == Timeouts(read_seconds=7, head_seconds=9)
    assert config({"timeouts": {"read_seconds": 7}}).config.providers["p"].timeouts == Timeouts(read_seconds=7)


def test_a_wrong_timeout_of_a_provider_is_named_once():
    with pytest.raises(ConfigError) as caught:
        config({}, timeouts={"head_seconds": 0})
    assert str(caught.value).count("providers.p.timeouts.head_seconds") == 1
