"""Tests that a circuit breaker keeps its rules under any order of attempts, failures, late replies and pauses."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.config.model import CircuitBreaker
from gateway.upstream.health.circuit import MAX_DOUBLINGS, Circuit

BREAKERS = st.builds(
    CircuitBreaker,
    failures=st.sampled_from([0.1, 0.5, 1.0]),
    calls=st.integers(1, 6),
    window_seconds=st.sampled_from([1.0, 60.0]),
    open_seconds=st.sampled_from([0.5, 15.0]),
    half_open=st.integers(1, 4),
    slow_start_seconds=st.sampled_from([0.0, 30.0]),
)


class CircuitMachine(RuleBasedStateMachine):
    """One circuit, with the attempts that it has let pass and that have not ended yet."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.begun: list[float] = []
        self.probes: list[float] = []
        """The times at which the circuit has let probes (trial attempts) pass since it became half open."""

    @initialize(breaker=BREAKERS)
    def create(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.circuit = Circuit(breaker)

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 16.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def try_(self) -> None:
        was_resting = self.circuit.state == "open" and self.now < self.circuit.until
        held = self.circuit.held_until > self.now
        passes = self.circuit.may_try(self.now)
        assert not (passes and (was_resting or held))
        if passes:
            self.begun.append(self.now)
        if self.circuit.state != "half_open":
            self.probes.clear()
        elif passes:
            self.probes.append(self.now)

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), failed=st.booleans())
    def end(self, data: st.DataObject, failed: bool) -> None:
        begun = self.begun.pop(data.draw(st.integers(0, len(self.begun) - 1)))
        self._end(failed, self.now - begun)

    @rule(failed=st.booleans())
    def end_of_an_attempt_made_all_the_same(self, failed: bool) -> None:
        self._end(failed, 0.0)

    @rule(seconds=st.sampled_from([0.0, 5.0, 60.0]))
    def throttle(self, seconds: float) -> None:
        self.circuit.throttled(self.now, seconds)

    @rule(breaker=BREAKERS)
    def reload(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.circuit.configured(breaker)
        self.probes.clear()

    @invariant()
    def counts_are_true(self) -> None:
        calls, failures = self.circuit.counts(self.now)
        assert 0 <= failures <= calls
        assert self.circuit.window.failures >= 0
        assert self.circuit.window.calls >= self.circuit.window.failures

    @invariant()
    def only_a_closed_circuit_passes_all(self) -> None:
        if self.circuit.passes_all:
            assert self.circuit.state == "closed"
            assert self.circuit.may_try(self.now)

    @invariant()
    def few_probes_pass_in_any_rest(self) -> None:
        recent = [at for at in self.probes if at > self.now - self.breaker.open_seconds]
        assert len(recent) <= self.breaker.half_open

    @invariant()
    def a_rest_has_an_end(self) -> None:
        if self.circuit.state == "open":
            # the times are sums of floating-point numbers
            assert self.circuit.until - self.circuit.since <= 15.0 * 2**MAX_DOUBLINGS + 1e-6

    def teardown(self) -> None:
        """Check that the circuit closes if attempts succeed again."""
        if not hasattr(self, "circuit"):
            return
        rest = 15.0 * 2**MAX_DOUBLINGS + 60.0
        for _ in range(self.breaker.half_open):
            self.now += rest
            if self.circuit.may_try(self.now):
                self._end(failed=False, seconds=0.0)
        self.now += 30.0
        assert self.circuit.may_try(self.now)
        assert self.circuit.state == "closed"

    def _end(self, failed: bool, seconds: float) -> None:
        if failed:
            self.circuit.failed(self.now, seconds)
        else:
            self.circuit.succeeded(self.now, seconds)
        if self.circuit.state != "half_open":
            self.probes.clear()


CircuitMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestCircuit = CircuitMachine.TestCase
