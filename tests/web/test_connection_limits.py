"""Tests of connection limits without sockets.

They cover which connections are closed because they are idle or because a new connection needs room, and what is
logged.
"""

import asyncio
from types import SimpleNamespace

import pytest

from gateway.config.server import Limits
from gateway.telemetry.log import configure
from gateway.telemetry.metrics import Metrics
from gateway.web import connection_limits
from gateway.web.connection_limits import Connections
from tests.helpers.gateway import Lines
from tests.helpers.waiting import eventually

NO_PROVIDERS = SimpleNamespace(providers={}, metrics=SimpleNamespace(users=0))
ADA, BOB = ("100.64.0.1", 1234), ("100.64.0.2", 1234)
LOCAL = ("127.0.0.1", 1234)


class Peer:
    """A simulated connection, which is idle by default. With `head`, a part of a request's head has arrived. With
    `call`, a call is in flight.
    """

    def __init__(self, *, head=False, call=False):
        self.awaits_head = not call
        self.has_no_head = not call and not head
        self.closed = ""

    def abort(self):
        self.closed = "aborted"

    def force_close(self):
        self.closed = "closed"


class Counted:
    """The connections of a process, with a clock that a test sets."""

    def __init__(self, monkeypatch, **limits):
        self.now = 0.0
        monkeypatch.setattr(connection_limits, "monotonic", lambda: self.now)
        self.limits = Limits(**limits)
        self.metrics, self.lines = Metrics(NO_PROVIDERS), Lines()
        self.connections = Connections(lambda: self.limits, self.metrics, configure(self.lines))

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"irisgate_{name}", labels)

    def admitted(self, host=LOCAL, **state):
        peer = Peer(**state)
        assert self.connections.admit(peer, host)
        return peer

    def sweep(self, now):
        """Set the clock, and close the connections that have been idle for too long. In a gateway, a timer does this."""
        self.connections._sweep_timer.cancel()
        self.now = now
        self.connections._sweep()


@pytest.fixture
async def counted(monkeypatch):
    """Yield a function that makes a `Counted`. At the end, the timers of all of them are cancelled."""
    made = []

    def make(**limits):
        made.append(Counted(monkeypatch, **limits))
        return made[-1]

    yield make
    for each in made:
        if each.connections._sweep_timer is not None:
            each.connections._sweep_timer.cancel()


async def test_the_connection_that_is_idle_for_longest_is_closed(counted):
    these = counted(connections=3)
    first, second = these.admitted(), these.admitted()
    busy = these.admitted(call=True)
    these.connections.busy(busy)
    these.connections.busy(first)
    these.now = 1.0
    these.connections.idle(first)
    these.connections.busy(busy)
    assert list(these.connections._idle.items()) == [(second, 0.0), (first, 1.0)]
    third = these.admitted()
    assert [peer.closed for peer in (first, second, busy, third)] == ["", "aborted", "", ""]
    assert these.value("connections") == 3
    these.admitted()
    assert [peer.closed for peer in (first, busy, third)] == ["aborted", "", ""]
    assert these.value("connections") == 3


async def test_the_end_of_a_second_request_is_the_beginning_of_being_idle(counted):
    """Check that a connection that has served a further request counts as idle from the end of this request."""
    these = counted()
    first, second = these.admitted(), these.admitted()
    these.now = 1.0
    these.connections.idle(first)
    assert list(these.connections._idle.items()) == [(second, 0.0), (first, 1.0)]


async def test_no_call_in_flight_makes_room(counted):
    these = counted(connections=2)
    busy = [these.admitted(ADA, call=True), these.admitted(call=True)]
    for peer in busy:
        these.connections.busy(peer)
    assert not these.connections.admit(Peer(), BOB)
    assert ([peer.closed for peer in busy], these.value("connections")) == (["", ""], 2)
    assert these.value("connections_refused_total", limit="connections") == 1
    (entry,) = await these.lines.until("connections.refused")
    assert (entry["limit"], entry["peer"], entry["count"]) == ("connections", "100.64.0.2", 1)


async def test_an_address_makes_room_among_its_own_connections_only(counted):
    these = counted(connections_per_peer=2)
    bob = these.admitted(BOB)
    first, second = these.admitted(ADA, call=True), these.admitted(ADA)
    these.admitted(ADA)
    assert [peer.closed for peer in (bob, first, second)] == ["", "", "aborted"]
    assert these.value("connections") == 3


async def test_an_address_without_an_idle_connection_is_refused(counted):
    these = counted(connections_per_peer=1)
    these.admitted(ADA, call=True)
    assert not these.connections.admit(Peer(), ADA)
    these.admitted(BOB)
    for _ in range(3):
        these.admitted(LOCAL, call=True)
    assert these.value("connections_refused_total", limit="connections_per_peer") == 1
    (entry,) = await these.lines.until("connections.refused")
    assert (entry["limit"], entry["peer"]) == ("connections_per_peer", "100.64.0.1")


async def test_a_closed_connection_leaves_nothing_behind(counted):
    these = counted(connections_per_peer=1)
    for host in (ADA, BOB, LOCAL, ADA):
        peer = these.admitted(host)
        these.connections.remove(peer)
        these.connections.remove(peer)
        # a reply that ends after the connection was closed
        these.connections.idle(peer)
    connections = these.connections
    assert (connections.count, connections._by_peer, list(connections._idle)) == (0, {}, [])


async def test_the_other_connections_of_an_address_stay_counted(counted):
    these = counted(connections_per_peer=2)
    these.connections.remove(these.admitted(ADA))
    these.admitted(ADA, call=True)
    these.connections.remove(these.admitted(ADA, call=True))
    these.admitted(ADA, call=True)
    assert not these.connections.admit(Peer(), ADA)


async def test_connections_that_are_idle_for_too_long_are_closed(counted):
    these = counted(idle_seconds=10)
    old, half, busy = these.admitted(), these.admitted(head=True), these.admitted()
    these.connections.busy(busy)
    these.now = 5.0
    young = these.admitted()
    these.sweep(10.0)
    assert [peer.closed for peer in (old, half, busy, young)] == [""] * 4
    these.sweep(10.5)
    assert [peer.closed for peer in (old, half, busy, young)] == ["closed", "", "", ""]
    these.connections.remove(old)
    # the half head has a deadline of its own, so it counts as idle from now on
    assert list(these.connections._idle.items()) == [(young, 5.0), (half, 10.5)]
    these.sweep(15.5)
    assert young.closed == "closed"


async def test_there_is_a_next_search_as_long_as_there_are_connections(counted):
    these = counted(idle_seconds=10)
    peer = these.admitted()
    timer = these.connections._sweep_timer
    these.admitted()
    assert these.connections._sweep_timer is timer
    these.sweep(1.0)
    assert these.connections._sweep_timer is not None
    assert not these.connections._sweep_timer.cancelled()
    for each in list(these.connections._open):
        these.connections.remove(each)
    these.sweep(2.0)
    assert these.connections._sweep_timer is None
    these.connections.remove(peer)
    these.admitted()
    assert these.connections._sweep_timer is not None


@pytest.mark.parametrize(("idle_seconds", "wait"), [(75, 1.0), (0.25, 0.25)])
async def test_the_next_search_is_soon_enough(counted, idle_seconds, wait):
    these = counted(idle_seconds=idle_seconds)
    these.admitted()
    before = asyncio.get_running_loop().time()
    these.sweep(0.0)
    after = asyncio.get_running_loop().time()
    assert before <= these.connections._sweep_timer.when() - wait <= after


async def test_the_timer_searches_for_idle_connections(counted):
    these = counted(idle_seconds=0.01)
    peer = these.admitted()
    these.now = 1.0
    await eventually(lambda: peer.closed == "closed")


def test_the_address_of_a_client_is_the_one_of_its_socket(monkeypatch):
    transport = SimpleNamespace(get_extra_info={"peername": ADA}.get)
    assert Counted(monkeypatch).connections.client(transport) == ADA


async def test_a_late_head_is_counted_and_logged_with_its_client(counted):
    these = counted()
    these.connections.late(these.admitted(ADA))
    (entry,) = await these.lines.until("connections.refused")
    assert (entry["limit"], entry["peer"], entry["count"]) == ("head_seconds", "100.64.0.1", 1)
    assert these.value("connections_refused_total", limit="head_seconds") == 1


async def test_a_late_head_of_a_connection_that_is_gone_has_no_client(counted):
    these = counted()
    these.connections.late(Peer())
    (entry,) = await these.lines.until("connections.refused")
    assert entry["peer"] == ""


async def test_refusals_are_logged_by_limit(counted):
    these = counted(connections=1)
    these.connections.late(these.admitted(ADA, call=True))
    these.connections.late(Peer())
    assert not these.connections.admit(Peer(), BOB)
    # the second late head would be too soon after the first
    assert [entry["limit"] for entry in await these.lines.until("connections.refused", 2)] == [
        "head_seconds",
        "connections",
    ]


async def test_malformed_requests_are_logged_by_kind(counted):
    these = counted()
    failure = ValueError("a word of the request")
    for kind, failed in (("BadStatusLine", None), ("BadStatusLine", None), ("ValueError", failure)):
        these.connections.malformed(kind, f"id of {kind}", failed)
    first, second = await these.lines.until("http.error", 2)
    assert (first["kind"], first["request_id"], first["count"]) == ("BadStatusLine", "id of BadStatusLine", 1)
    assert ("exception" in first, second["kind"]) == (False, "ValueError")
    assert "ValueError: a word of the request" in second["exception"]


async def test_failed_handshakes_are_logged_by_reason(counted):
    these = counted()
    for reason, peer in (("http request", ADA), ("http request", BOB), ("unknown ca", LOCAL)):
        these.connections.no_tls(reason, peer)
    first, second = await these.lines.until("tls.failed", 2)
    assert (first["reason"], first["peer"], first["count"]) == ("http request", "100.64.0.1", 1)
    assert (second["reason"], second["peer"], second["count"]) == ("unknown ca", "", 1)


async def test_a_call_in_flight_is_never_closed_as_idle(counted):
    """Check that a connection with a call in flight is not closed as idle.

    The list of idle connections may still have this connection, because it was idle before the call.
    """
    these = counted(idle_seconds=10)
    busy = these.admitted(call=True)
    these.sweep(10.5)
    these.sweep(30.0)
    assert (busy.closed, list(these.connections._idle)) == ("", [busy])
    busy.awaits_head = busy.has_no_head = True
    these.sweep(41.0)
    assert busy.closed == "closed"


def test_the_limit_of_descriptors_stays_if_it_is_at_its_highest(monkeypatch):
    asked = []

    def get(which):
        asked.append(which)
        return 4096, 4096

    monkeypatch.setattr(connection_limits.resource, "getrlimit", get)
    monkeypatch.setattr(connection_limits.resource, "setrlimit", lambda *limit: asked.append(limit))
    connection_limits.raise_descriptor_limit()
    assert asked == [connection_limits.resource.RLIMIT_NOFILE]


def test_few_descriptors_leave_room_for_one_connection(monkeypatch):
    monkeypatch.setattr(connection_limits.resource, "getrlimit", lambda _: (100, 4096))
    assert connection_limits.most_connections(Limits(connections=10)) == 1
