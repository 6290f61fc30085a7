"""Tests that a process hands over what it knows of the health of providers to the process that replaces it."""

import msgspec
import pytest

from gateway.config.credentials import KeyHelper, PooledKey, ServiceAccount
from gateway.config.document.secrets import Secret
from gateway.config.model import Provider
from gateway.upstream.health.circuit import CircuitState
from gateway.upstream.health.circuits import Health
from gateway.upstream.health.standings import HealthState, ModelState, RestState
from gateway.upstream.health.ways import fingerprint
from tests.upstream.health.test_circuits import A, B, Clock, Peers, config


def successor(peers, same=(A, B), **breaker):
    """Return the health of providers in a new process that has taken over the state of `peers`.

    The new process's clock shows another time. `same` are the providers whose configuration has not changed.
    """
    clock = Clock()
    clock.now = 7.0
    made = Peers(**breaker)
    made.clock, made.changes = clock, []
    made.health = Health(config(**breaker), clock=clock, changed=made.changes.append)
    sent = msgspec.json.encode(peers.health.remembered())
    made.adopted = made.health.adopt(msgspec.json.decode(sent, type=HealthState), set(same))
    return made


def failing(seconds=0.0, **breaker):
    peers = Peers(**breaker)
    peers.health.note(A, "m", "internal", "no service \ud800")
    peers.ends(*[True] * 5)
    peers.clock.now += seconds
    return peers


def test_an_open_circuit_stays_open_for_the_rest_of_its_time():
    peers = failing(5.0)
    other = successor(peers)
    assert (other.adopted, other.passes(3), other.passes(provider=B)) == (1, 0, 1)
    standing = other.standing()
    assert (standing.state, standing.cause, standing.retry_in) == ("open", "failures", 10.0)
    assert standing.last_failure.message == "no service ?"
    other.clock.now += 10.0
    assert other.passes(9) == 3
    assert [change.state for change in other.changes] == ["half_open"]


def test_a_half_open_circuit_is_probed_by_the_next_attempt():
    peers = failing(15.0)
    assert peers.passes(2) == 2
    other = successor(peers)
    assert other.passes(9) == 3
    other.ends(True)
    assert other.standing().retry_in == 30.0


def test_a_slow_start_goes_on():
    peers = failing(15.0)
    assert peers.passes(3) == 3
    peers.ends(False, False, False)
    peers.clock.now += 15.0
    other = successor(peers)
    assert other.standing().state == "slow_start"
    assert 4 <= other.passes(10) <= 7
    other.clock.now += 15.0
    assert other.passes(10) == 10
    assert other.standing().state == "closed"


def test_a_wait_that_the_provider_demanded_is_kept():
    peers = Peers()
    peers.health.throttled(A, "m", 20.0)
    peers.clock.now += 5.0
    other = successor(peers)
    assert (other.passes(), other.standing().cause, other.standing().retry_in) == (0, "throttled", 15.0)
    other.clock.now += 15.0
    assert other.passes(5) == 5


def test_a_refused_key_is_kept():
    peers = Peers()
    peers.health.key_refused(A)
    peers.clock.now += 5.0
    other = successor(peers)
    assert (other.adopted, other.passes(), other.passes(model="n"), other.standing().cause) == (1, 0, 0, "key_refused")
    other.clock.now += 10.0
    assert other.passes(5) == 1
    other.ends(False)
    assert other.standing().state == "closed"


def test_healthy_models_are_not_sent():
    peers = Peers()
    peers.ends(*[False] * 50)
    assert peers.health.remembered() == HealthState()


@pytest.mark.parametrize(("same", "breaker"), [([B], {}), ([], {}), ([A, B], {"enabled": False})])
def test_a_provider_that_is_another_or_has_no_breaker_starts_as_healthy(same, breaker):
    peers = failing()
    peers.health.key_refused(A)
    assert successor(peers, same, **breaker).passes(9) == 9


def test_a_state_that_no_gateway_makes_is_held_within_the_limits():
    peers = Peers()
    odd = CircuitState(state="open", cause="failures", age=-5.0, rest=1e9, held=-1.0, doublings=99)
    assert peers.health.adopt(HealthState((ModelState(A, "m", odd), ModelState("gone", "m", odd))), {A, "gone"}) == 1
    assert peers.standing().retry_in == 120.0
    peers.health.adopt(HealthState(rests=(RestState(B, -1.0, 1e9, -3),)), {B})
    assert peers.standing(B).retry_in == 120.0


def provider(**members):
    return Provider("p", **{"baseurl": "https://p", "models": ("m",), **members})


ACCOUNT = ServiceAccount("a@b", Secret("one"), "", "https://oauth2.googleapis.com/token", ("s",))
WAYS = [
    provider(), provider(baseurl="https://q"), provider(apikey=Secret("k")), provider(apikey=Secret("l")),
    provider(apikeys=(PooledKey("a", Secret("k")),)), provider(apikeys=(PooledKey("b", Secret("k")),)),
    provider(apikeys=(PooledKey("a", Secret("l")),)), provider(authorization="x-api-key"),
    provider(issuer=KeyHelper(("/token",))), provider(issuer=KeyHelper(("/token", "x"))), provider(issuer=ACCOUNT),
    provider(issuer=ServiceAccount("a@b", Secret("two"), "", "https://x", ("s",))),
    provider(add_headers=(("x-key", "1"),)), provider(add_headers=(("x-key", "2"),)),
]  # fmt: skip


def test_each_other_way_to_a_provider_has_another_fingerprint():
    assert len({fingerprint(each) for each in WAYS}) == len(WAYS)
    assert fingerprint(provider(apikey=Secret("k"))) == fingerprint(provider(apikey=Secret("k"), models=(), weight=3))
