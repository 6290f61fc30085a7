"""Tests of sampling parameters together with thinking, at the limits of what Anthropic's models accept."""

import pytest

from gateway.contract.flag import Caps
from gateway_plugins.shared.settings import supported_sampling


def left(request, caps=None, **more):
    drops = []
    return supported_sampling(request, caps or Caps(), drops.append, **more), drops


@pytest.mark.parametrize(("top_p", "stays"), [(0.94, False), (0.949, False), (0.95, True), (0.99, True), (1, True)])
def test_beside_thinking_top_p_is_taken_from_095_on(top_p, stays):
    expected = ({"top_p": top_p}, []) if stays else ({}, ["/top_p"])
    assert left({"top_p": top_p}, thinks=True) == expected


def test_without_thinking_top_p_may_be_lower():
    assert left({"top_p": 0.5}, thinks=False) == ({"top_p": 0.5}, [])


@pytest.mark.parametrize(("temperature", "taken"), [(1, 1), (1.01, 1), (0.99, 0.99), (0, 0)])
def test_a_temperature_above_the_scale_becomes_its_end(temperature, taken):
    """Check that a temperature above the provider's maximum becomes this maximum, and that the change is reported."""
    assert left({"temperature": temperature}, thinks=False) == (
        {"temperature": taken},
        ["/temperature"] * (temperature > taken),
    )


def test_what_a_model_that_thinks_does_anyway_is_no_loss():
    assert left({"temperature": 1, "top_k": 5}, thinks=True) == ({}, ["/top_k"])
