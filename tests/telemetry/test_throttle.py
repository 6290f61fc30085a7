"""Tests that a flood of equal events writes only one log line. A line that is written later has the number of the
events that were left out.
"""

from types import SimpleNamespace

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from gateway.access.identity.proxy_protocol import ProxyRefusals
from gateway.call.admission import Admission
from gateway.config.server import Limits
from gateway.contract.errors import Refused
from gateway.telemetry import throttle
from gateway.telemetry.http_log import server_logger
from gateway.telemetry.log import configure
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.throttle import MAX_KINDS, Throttle
from gateway.web.connection_limits import Connections
from tests.helpers.gateway import Lines

FLOOD = 500


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(throttle, "monotonic", lambda: now[0])
    return now


def test_a_kind_is_due_at_once_and_then_after_the_quiet_time(clock):
    one = Throttle()
    assert [one.due("a"), one.due("a"), one.due("b"), one.due("a")] == [1, 0, 1, 0]
    clock[0] += throttle.QUIET_SECONDS
    assert [one.due("a"), one.due("a"), one.due("b")] == [3, 0, 1]


def test_kinds_without_end_take_no_memory_without_end(clock):
    one = Throttle()
    assert sum(one.due(str(number)) for number in range(MAX_KINDS * 3)) == MAX_KINDS * 3
    assert len(one._kinds) <= MAX_KINDS


def refused_calls(metrics, log):
    admission = Admission(lambda: Limits(calls=0), metrics, log)

    def refuse():
        with pytest.raises(Refused):
            admission.enter("alice", 0)

    return refuse


def refused_connections(metrics, log):
    connections = Connections(lambda: Limits(connections_per_peer=0), metrics, log)
    return lambda: connections.admit(SimpleNamespace(), ("10.0.0.7", 1))


def malformed_requests(metrics, log):
    connections = Connections(Limits, metrics, log)
    return lambda: connections.malformed("BadHttpMessage", "id", None)


def errors_of_aiohttp(_metrics, log):
    of_server = server_logger(log)
    return lambda: of_server.error("Error handling request", exc_info=BadHttpMessage("bad"))


def refused_proxies(_metrics, log):
    refusals = ProxyRefusals(log)
    return lambda: refusals.note(("10.0.0.7", 1), "the connection comes from no proxy of this listener")


@pytest.mark.parametrize(
    ("source", "event"),
    [
        (refused_calls, "calls.refused"),
        (refused_connections, "connections.refused"),
        (malformed_requests, "http.error"),
        (errors_of_aiohttp, "http.error"),
        (refused_proxies, "identity.proxy_refused"),
    ],
)
async def test_a_flood_writes_one_line_and_the_next_has_its_number(clock, source, event):
    lines = Lines()
    metrics = Metrics(SimpleNamespace(providers={}, metrics=SimpleNamespace(users=0)))
    refuse = source(metrics, configure(lines))
    for _ in range(FLOOD):
        refuse()
    clock[0] += throttle.QUIET_SECONDS
    refuse()
    entries = await lines.until(event, 2)
    assert [entry["count"] for entry in entries] == [1, FLOOD]
