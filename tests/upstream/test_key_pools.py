"""Tests of choosing one of a provider's keys for a call. Calls, throttled replies and refused keys come in any order."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.config.credentials import PooledKey
from gateway.config.document.secrets import Secret
from gateway.config.model import CircuitBreaker, Provider
from gateway.upstream import key_pools
from gateway.upstream.health.circuits import MAX_HELD
from gateway.upstream.key_pools import KeyPools, PoolState
from gateway.upstream.refused_keys import RefusedKeys

NAMES = ("a", "b", "c")
MODELS = ("m", "n")
PROVIDER = Provider(
    "p",
    "https://models.test",
    models=MODELS,
    apikeys=tuple(PooledKey(name, Secret(f"key-{name}")) for name in NAMES),
    circuit_breaker=CircuitBreaker(open_seconds=10.0),
)


class Pool:
    """The pool of `PROVIDER`, with a clock that the test sets."""

    def __init__(self):
        self.now = 100.0
        self.pools = KeyPools(lambda: self.now)

    @property
    def pool(self):
        return self.pools.of(PROVIDER)

    def free(self, session="s", model="m", sticky=300.0):
        state = self.pool.free(model, ("ada", session), sticky)
        return state.name if state else None

    def state(self, name):
        return next(state for state in self.pool.states if state.name == name)


@pytest.fixture
def keys():
    return Pool()


def test_equal_keys_are_taken_by_turns(keys):
    assert [keys.free(session) for session in "123456"] == [*"abcabc"]


def test_the_key_with_the_fewest_calls_in_flight_is_taken(keys):
    keys.state("a").in_flight, keys.state("b").in_flight, keys.state("c").in_flight = 2, 1, 3
    assert keys.free() == "b"


def test_a_session_stays_until_no_call_has_come_for_a_while(keys):
    assert keys.free("1") == "a"
    keys.now += 299
    assert (keys.free("1"), keys.free("2")) == ("a", "b")
    keys.now += 300
    assert keys.free("1") == "c"


def test_a_session_leaves_a_key_that_rests_and_stays_at_the_next(keys):
    keys.free("1")
    keys.state("a").rest("m", 5)
    assert keys.free("1") == "b"
    keys.now += 6
    assert keys.free("1") == "b"


def test_a_throttled_key_rests_for_one_model(keys):
    for name in NAMES:
        keys.state(name).rest("m", 1000)
    assert keys.free(model="m") is None
    assert keys.free(model="n") == "a"
    keys.now += MAX_HELD
    assert keys.free(model="m") is not None


def test_a_shorter_wait_does_not_end_a_longer_one(keys):
    keys.state("a").rest("m", 30)
    keys.state("a").rest("m", 1)
    assert keys.state("a").free_in("m") == 30


def test_when_no_key_is_free_the_next_is_taken_and_refused_ones_are_last(keys):
    keys.state("a").rest("m", 30)
    keys.state("b").rest("m", 20)
    keys.state("c").refused()
    assert keys.free() is None
    assert keys.pool.next_free("m", ("ada", "s")).name == "b"
    assert keys.pool.free_in("m") == 20


def test_probes_of_a_refused_key_become_rare(keys):
    state = keys.state("a")
    state.refused()
    waits = []
    for _ in range(4):
        waits.append(state.free_in("m"))
        keys.now += waits[-1]
        for name in "bc":
            keys.state(name).rest("m", 1)
        assert keys.free(f"at {keys.now}") == "a"
        state.refused()
    assert waits == [10, 20, 40, 80]


def test_an_attempt_that_began_before_the_refusal_does_not_end_it(keys):
    keys.state("a").refused()
    assert not keys.state("a").accepted(keys.now - 1)
    assert keys.state("a").accepted(keys.now)
    assert keys.free() == "a"


@pytest.mark.parametrize("change", [{"weight": 2}, {"baseurl": "https://other.test"}])
def test_a_change_of_the_configuration_ends_rests_and_keeps_the_calls(keys, change):
    for name in NAMES:
        keys.state(name).refused()
        keys.state(name).in_flight = 1
    pool = keys.pools.of(replace(PROVIDER, **change))
    assert not pool.are_all_refused
    assert [state.in_flight for state in pool.states] == [1, 1, 1]


def test_a_changed_list_of_discovered_models_ends_no_rest():
    clock, provider = lambda: 100.0, replace(PROVIDER, discovers=True)
    pools, refused = KeyPools(clock), RefusedKeys()
    pools.of(provider).states[0].refused()
    refused.refused(provider, "a")
    longer = replace(provider, models=(*MODELS, "o"), base_models={"o": "m"})
    assert [state.is_refused for state in pools.of(longer).states] == [True, False, False]
    assert refused.names(longer) == ["a"]
    moved = replace(longer, baseurl="https://other.test")
    assert not any(state.is_refused for state in pools.of(moved).states)
    assert refused.names(moved) == []


def test_a_key_with_another_value_is_another_key(keys):
    keys.state("a").in_flight = 1
    changed = (PooledKey("a", Secret("renewed")), *PROVIDER.apikeys[1:])
    first, *_ = keys.pools.of(replace(PROVIDER, apikeys=changed)).states
    assert (first.secret.value, first.in_flight) == ("renewed", 0)


class KeysMachine(RuleBasedStateMachine):
    """A pool of keys, used in any order: calls begin and end, and keys are throttled and refused."""

    def __init__(self):
        super().__init__()
        self.keys = Pool()
        self.begun = []

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 200.0]))
    def wait(self, seconds):
        self.keys.now += seconds

    @rule(session=st.sampled_from("123"), model=st.sampled_from(MODELS), sticky=st.sampled_from([0.0, 300.0]))
    def call(self, session, model, sticky):
        pool = self.keys.pool
        free = [state for state in pool.states if not state.free_in(model)]
        last = pool._sessions.get(("ada", session))
        state = pool.free(model, ("ada", session), sticky)
        assert (state is None) == (not free)
        if state is None:
            state = pool.next_free(model, ("ada", session))
        else:
            assert state in free
            stays = last is not None and last[1] is state
            assert stays or state.in_flight == min(other.in_flight for other in free)
        state.in_flight += 1
        self.begun.append((state, model, self.keys.now))

    @rule(data=st.data(), end=st.sampled_from(["served", "throttled", "refused"]), seconds=st.floats(0.1, 1000))
    def end(self, data, end, seconds):
        if not self.begun:
            return
        state, model, began = self.begun.pop(data.draw(st.integers(0, len(self.begun) - 1)))
        state.in_flight -= 1
        match end:
            case "served":
                state.accepted(began)
            case "throttled":
                state.rest(model, seconds)
                assert state.free_in(model) > 0
            case "refused":
                state.refused()
                assert state.is_refused

    @invariant()
    def each_call_is_counted_at_one_key(self):
        assert sum(state.in_flight for state in self.keys.pool.states) == len(self.begun)

    @invariant()
    def a_throttled_key_that_is_not_refused_is_soon_free(self):
        waits = [state.free_in(model) for state in self.keys.pool.states for model in MODELS if not state.is_refused]
        assert all(0 <= wait <= MAX_HELD for wait in waits)


TestKeys = KeysMachine.TestCase


def successor(pool):
    """Return the key pools of a new process that has taken over the state of `pool`. Its clock shows another time."""
    other = Pool()
    other.now = 5.0
    sent = msgspec.json.encode(pool.pools.remembered())
    other.pools.adopt(msgspec.json.decode(sent, type=tuple[PoolState, ...]), [PROVIDER])
    return other


def state_of(pool, name):
    return next(state for state in pool.pool.states if state.name == name)


def test_a_process_that_replaces_another_keeps_keys_at_rest_and_sessions():
    pool = Pool()
    kept = pool.free("kept")
    others = [name for name in NAMES if name != kept]
    state_of(pool, others[0]).refused()
    state_of(pool, others[1]).rest("m", 30.0)
    pool.now += 4.0
    other = successor(pool)
    assert [other.free(f"s{number}") for number in range(4)] == [kept] * 4
    assert [other.free(f"n{number}", "n") for number in range(4)].count(others[1]) >= 1
    assert state_of(other, others[0]).free_in("m") == 6.0
    assert state_of(other, others[1]).free_in("m") == 26.0
    other.now += 30.0
    assert {other.free(f"t{number}") for number in range(9)} == {*NAMES}
    assert other.free("kept") == kept


def test_sessions_of_a_replaced_process_end_with_their_last_call():
    pool = Pool()
    first = pool.free("s")
    pool.now += 200.0
    other = successor(pool)
    other.now += 99.0
    state_of(other, first).in_flight = 5
    assert other.free("s") == first
    pool.now += 100.0
    later = successor(pool)
    state_of(later, first).in_flight = 5
    assert later.free("s") != first


def test_all_pools_together_send_a_limited_number_of_sessions(monkeypatch):
    monkeypatch.setattr(key_pools, "MAX_SESSIONS", 6)
    pools = KeyPools(lambda: 1.0)
    for provider in "pqr":
        for session in range(6):
            pools.of(replace(PROVIDER, id=provider)).free("m", ("ada", f"s{session}"), 300.0)
    sent = [[one.session for one in pool.sessions] for pool in pools.remembered()]
    assert sent == [["s4", "s5"]] * 3


def test_keys_that_a_configuration_no_longer_has_are_not_adopted():
    pool = Pool()
    for number in range(6):
        pool.free(f"s{number}")
    state_of(pool, "a").refused()
    fewer = replace(PROVIDER, apikeys=PROVIDER.apikeys[1:])
    other = KeyPools(lambda: 5.0)
    other.adopt(pool.pools.remembered(), [fewer, replace(PROVIDER, id="new")])
    assert [state.name for state in other.of(fewer).states] == ["b", "c"]
    assert not any(state.is_refused for state in other.of(fewer).states)
