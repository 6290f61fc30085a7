"""Random clients and random providers with the gateway between them: tests of rules that hold for every call."""

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
