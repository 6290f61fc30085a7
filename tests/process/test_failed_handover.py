"""Tests of a gateway that fails to hand over its listeners and state to a new process.

The causes are wrong descriptors, a state that cannot be sent, and a cancelled hand-over.
"""

import asyncio
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path

import pytest

from gateway.call.spools import SpoolReader
from gateway.money.quotas.buckets import Rule
from gateway.money.quotas.reservations import Claim
from gateway.process.handover.departure import Departure
from gateway.process.handover.giving import Giver
from gateway.process.handover.taking import CannotTake, Taker, connect
from gateway.process.handover.wire import MAX_DESCRIPTORS, Broken, Hello, receive
from gateway.store.base import StoreFailed
from gateway.store.entries import Entry, encode
from gateway.store.journal import Journal
from tests.helpers.gateway import gate
from tests.helpers.leaving import cancelled
from tests.helpers.records import record
from tests.helpers.waiting import eventually

HELLO = Hello(1, 1, "", False)
STATE = {"type": "State", "spools": [], "limits": [], "sessions": []}


def open_files():
    return set(Path("/proc/self/fd").iterdir())


def sockets(count):
    return {"type": "Sockets", "sockets": [[f"127.0.0.1:{number}", None] for number in range(count)]}


def answered(message, descriptors):
    """Return the ends of a hand-over socket: the new process's end and the running gateway's. The gateway's end has
    already sent a message with descriptors.
    """
    ours, theirs = socket.socketpair()
    data = json.dumps(message).encode()
    socket.send_fds(theirs, [len(data).to_bytes(4, "big") + data], descriptors)
    theirs.shutdown(socket.SHUT_WR)
    return ours, theirs


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (sockets(2), 1),
        (sockets(2), 3),
        (sockets(0), 1),
        (sockets(MAX_DESCRIPTORS + 1), MAX_DESCRIPTORS + 1),
        (STATE, 1),
        ({"type": "Declined", "reason": "busy"}, 1),
        ({"type": "Nothing"}, 1),
    ],
)
def test_sockets_that_do_not_fit_are_declined_and_closed(message, count):
    with socket.socket() as one:
        ours, theirs = answered(message, [one.fileno()] * count)
        with ours, theirs:
            before = open_files()
            with pytest.raises(CannotTake, match="the running gateway does not hand over"):
                Taker(ours).offer(HELLO)
            assert open_files() < before


@pytest.mark.parametrize(("message", "count"), [(STATE, 0), (STATE, 2), (sockets(1), 1)])
def test_a_state_without_the_one_lock_is_a_failure(message, count):
    with socket.socket() as one:
        ours, theirs = answered(message, [one.fileno()] * count)
        with ours, theirs:
            before = open_files()
            with pytest.raises(StoreFailed, match="the running gateway does not hand over"):
                Taker(ours).commit()
            assert open_files() < before


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_length_that_comes_in_two_parts_is_read_whole(cut):
    """Check that a message is read completely if its length arrives in two parts. Descriptors that come with either
    part are received.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as one:
        data = json.dumps(sockets(2)).encode()
        head = len(data).to_bytes(4, "big")
        socket.send_fds(theirs, [head[:cut]], [one.fileno()])
        with ThreadPoolExecutor(1) as pool:
            received = pool.submit(receive, ours)
            with pytest.raises(TimeoutError):
                received.result(0.05)
            socket.send_fds(theirs, [head[cut:] + data], [one.fileno()])
            message, descriptors = received.result(5)
        for descriptor in descriptors:
            os.close(descriptor)
        assert (len(message.sockets), len(descriptors)) == (2, 2)


def test_a_connection_that_ends_within_the_length_is_broken():
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as one:
        socket.send_fds(theirs, [b"\0\0"], [one.fileno()])
        theirs.shutdown(socket.SHUT_WR)
        before = open_files()
        with pytest.raises(Broken, match="the connection was closed"):
            receive(ours)
        assert open_files() == before


@asynccontextmanager
async def giving(state, listeners):
    """Run a gateway that is ready to hand over to a new process. Yield the gateway, and a list to which a successful
    hand-over would append.

    The gateway hands over `listeners` listeners: its only one, and copies of it.
    """
    state.mkdir(mode=0o700)
    async with gate(state, {}) as gateway:
        running, replaced = gateway.running, []
        metrics = running.sites.bounds * (listeners - 1)
        giver = Giver(state, HELLO, running.gateway, running.sites, metrics, replaced.append)
        giver.start()
        yield gateway, replaced
        await giver.close()


@pytest.mark.parametrize("listeners", [1, MAX_DESCRIPTORS])
async def test_the_sockets_of_all_listeners_come_at_once(tmp_path, listeners):
    state = tmp_path / "state"
    async with giving(state, listeners) as (gateway, replaced):
        taker = connect(state)
        passed = await asyncio.to_thread(taker.offer, HELLO)
        for one in passed:
            one.socket.close()
        with pytest.raises(Broken):
            await asyncio.to_thread(taker.finish)
        assert ((await gateway.get("/healthz")).status, len(passed), replaced) == (200, listeners, [])


@pytest.mark.parametrize("listeners", [MAX_DESCRIPTORS + 1, MAX_DESCRIPTORS + 10])
async def test_a_gateway_with_too_many_listeners_says_so(tmp_path, listeners):
    state = tmp_path / "state"
    async with giving(state, listeners) as (gateway, replaced):
        with pytest.raises(CannotTake, match="it has more than 250 listeners"):
            await asyncio.to_thread(connect(state).offer, HELLO)
        assert ((await gateway.get("/healthz")).status, replaced) == (200, [])


async def test_a_state_that_cannot_be_sent_leaves_the_gateway_serving(tmp_path):
    """Check that if a gateway fails to send its state to the new process, it takes everything back and serves calls."""
    state = tmp_path / "state"
    async with giving(state, 1) as (gateway, replaced):
        quotas = gateway.running.gateway.quotas
        quotas.reserve([Claim("\ud800", Rule("requests", 5, kind="requests"), 1)])
        taker = connect(state)
        for one in await asyncio.to_thread(taker.offer, HELLO):
            one.socket.close()
        with pytest.raises(StoreFailed):
            await asyncio.to_thread(taker.commit)
        assert (await gateway.get("/healthz")).status == 200
        assert (gateway.running.gateway.keeper.is_here, replaced) == (True, [])


def followers():
    """Return the number of tasks that read new lines of this process's journal or of a spool."""
    return sum("_follow" in task.get_coro().__qualname__ for task in asyncio.all_tasks())


async def test_a_hand_over_that_is_cancelled_at_any_step_is_undone(tmp_path):
    """Check that after a hand-over was cancelled at any step, each journal is read by one task only.

    If two tasks read a journal, its entries would be stored twice.
    """
    state = tmp_path / "state"
    async with giving(state, 1) as (gateway, _):
        parts = gateway.running.gateway
        with closing(Journal(parts.spools.folder("replaced-1"), parts.log)) as spool:
            parts.spools.add(SpoolReader(parts.spools.folder("replaced-1")))
            parts.spools.start()
            before = followers()
            for step in count(1):
                spool.append(encode(Entry(call=record(id=f"a{step}"))))
                departure = Departure(parts, gateway.running.sites, sync=False)
                has_step = await cancelled(departure.begin(), step)
                parts.follower.put(Entry(call=record(id=f"b{step}")))
                await departure.undo()
                assert (followers(), parts.keeper.is_here) == (before, True)
                assert (await gateway.get("/healthz", headers={"connection": "close"})).status == 200
                if not has_step:
                    break
        assert step > 3
        await eventually(lambda: not list(parts.spools.all()))
        await parts.follower.flush()
        rows = (await parts.store.calls(None, None, 100)).rows
        assert sorted(row.id for row in rows) == sorted(f"{name}{at}" for name in "ab" for at in range(1, step + 1))


async def test_a_spools_unreadable_lines_are_set_aside_once(tmp_path, monkeypatch):
    async with giving(tmp_path / "state", 1) as (gateway, _):
        parts, asked = gateway.running.gateway, []
        call = parts.store.call

        async def failing(login, key):
            asked.append(key)
            if len(asked) <= 3:
                raise StoreFailed("the database is locked")
            return await call(login, key)

        monkeypatch.setattr(parts.store, "call", failing)
        with closing(Journal(parts.spools.folder("replaced-1"), parts.log)) as spool:
            spool.append(b"nonsense")
            spool.append(encode(Entry(call=record(id="a"))))
            parts.spools.add(SpoolReader(parts.spools.folder("replaced-1"), recovered=True))
            parts.spools.start()
            await eventually(lambda: len(asked) > 3)
        await eventually(lambda: not list(parts.spools.all()))
        await parts.follower.flush()
        assert [row.id for row in (await parts.store.calls(None, None, 100)).rows] == ["a"]
        assert parts.spools.folder("unreadable").read_bytes() == b"nonsense\n"
