"""Tests of rules that hold for every call, with random clients and random providers."""

from hypothesis import HealthCheck, settings

from tests.helpers.examples import examples
from tests.helpers.random_calls import RandomCalls

TestRandomCalls = RandomCalls.TestCase
TestRandomCalls.settings = settings(
    max_examples=examples(8),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
