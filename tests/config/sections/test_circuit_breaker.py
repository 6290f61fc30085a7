"""Tests of the settings of the circuit breaker: in the section `resilience`, and in a provider's configuration."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.load import loads
from gateway.config.model import CircuitBreaker, Config
from tests.config.examples import config, errors, warnings


def read(own: dict[str, Any], common: dict[str, Any]) -> Config:
    return loads(config({"circuit_breaker": own}, resilience={"circuit_breaker": common})).config


def test_without_the_section_the_breaker_has_its_defaults() -> None:
    settings = loads(config()).config
    assert settings.resilience.circuit_breaker == settings.providers["p"].circuit_breaker == CircuitBreaker()


def test_a_provider_has_the_common_settings_and_its_own_keys_override_them() -> None:
    settings = read({"calls": 50, "failures": 1}, {"calls": 20, "open_seconds": 60})
    assert settings.resilience.circuit_breaker == CircuitBreaker(calls=20, open_seconds=60)
    assert settings.providers["p"].circuit_breaker == CircuitBreaker(calls=50, failures=1, open_seconds=60)


def test_the_breaker_is_off_for_one_provider_or_on_for_one_provider() -> None:
    assert read({"enabled": False}, {}).providers["p"].circuit_breaker.enabled is False
    assert read({"enabled": True}, {"enabled": False}).providers["p"].circuit_breaker.enabled is True


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"failures": 50}, "failures: must be at most 1"),
        ({"failures": 0}, "failures: must be greater than 0"),
        ({"calls": 0}, "calls: must be at least 1"),
        ({"open_seconds": 0}, "open_seconds: must be greater than 0"),
        ({"half_open": 0}, "half_open: must be at least 1"),
        ({"slow_start_seconds": -1}, "slow_start_seconds: must be at least 0"),
        ({"enabled": "no"}, "enabled: "),
    ],
)
def test_a_wrong_value_is_an_error_at_both_places(section: dict[str, Any], fault: str) -> None:
    found = errors(config({"circuit_breaker": section}, resilience={"circuit_breaker": section}))
    assert [each.split(": ", 1)[1] for each in found if fault not in each] == []
    assert {each.split(": ")[1].split(".")[0] for each in found} == {"providers", "resilience"}


def test_an_unknown_key_is_a_warning_with_a_hint() -> None:
    found = warnings(config(resilience={"circuit_breaker": {"open_second": 3}}))
    assert (
        'resilience.circuit_breaker.open_second: unknown key; it has no effect; did you mean "open_seconds"?' in found
    )
