"""Tests of how connections are balanced between workers. In these tests, the workers run in one event loop and share
one listening socket.
"""

import asyncio
import errno
import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.process.workers import balance as balances
from gateway.process.workers.accepting import BalancedServer
from gateway.process.workers.balance import DEAD_SECONDS, Balance, Slots
from tests.helpers.waiting import eventually


@pytest.fixture
def slots():
    memory = Slots.create(4)
    yield memory
    memory.close()


class Client(asyncio.Protocol):
    """The worker's end of a client's connection. It tells the worker's `Balance` how many connections the worker has."""

    def __init__(self, worker):
        self.worker = worker

    def connection_made(self, transport):
        self.worker.open.add(transport)
        self.worker.balance.opened(len(self.worker.open))
        self.transport = transport

    def connection_lost(self, exc):
        self.worker.open.discard(self.transport)
        self.worker.balance.opened(len(self.worker.open))


class Worker:
    """A worker that accepts connections and keeps them open."""

    def __init__(self, slots, slot):
        self.open = set()
        self.balance = Balance(slots, slot, lambda: 0)

    def serve(self, listening):
        return BalancedServer(listening, lambda: Client(self), self.balance)


@asynccontextmanager
async def serving(slots, workers=4):
    """Let a number of workers accept the connections of one socket. Yield the workers, and a function that opens a
    connection.

    `slots` is the shared memory in which each worker publishes its number of connections.
    """
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        all_workers = [Worker(slots, slot) for slot in range(workers)]
        for worker in all_workers:
            worker.balance.start()
            stack.callback(worker.balance.stop)
            stack.callback(worker.serve(listening.dup()).close)

        async def connect():
            _, writer = await asyncio.open_connection(*listening.getsockname())
            stack.callback(writer.close)
            return writer

        yield all_workers, connect


def sizes(workers):
    return [len(worker.open) for worker in workers]


async def test_eight_connections_at_once_are_two_in_each_of_four_workers(slots):
    async with serving(slots) as (workers, connect):
        await asyncio.gather(*(connect() for _ in range(8)))
        await eventually(lambda: sum(sizes(workers)) == 8)
        assert sizes(workers) == [2, 2, 2, 2]


async def test_eight_connections_in_turn_are_two_in_each_of_four_workers(slots):
    async with serving(slots) as (workers, connect):
        for count in range(1, 9):
            await connect()
            await eventually(lambda count=count: sum(sizes(workers)) == count)
        assert sizes(workers) == [2, 2, 2, 2]


async def test_new_connections_go_to_the_worker_that_has_the_fewest(slots):
    async with serving(slots, workers=2) as (workers, connect):
        await asyncio.gather(*(connect() for _ in range(8)))
        await eventually(lambda: sizes(workers) == [4, 4])
        for transport in list(workers[1].open):
            transport.close()
        await eventually(lambda: sizes(workers) == [4, 0])
        await asyncio.gather(*(connect() for _ in range(4)))
        await eventually(lambda: sizes(workers) == [4, 4])


async def test_a_worker_alone_accepts_every_connection(slots):
    async with serving(slots, workers=1) as (workers, connect):
        await asyncio.gather(*(connect() for _ in range(50)))
        await eventually(lambda: sizes(workers) == [50])


async def test_no_connection_waits_for_a_worker_without_a_sign_of_life(slots, monkeypatch):
    async with serving(slots, workers=2) as (workers, connect):
        slots.write(3, 0, 0)  # a worker that hangs from now on, and has no connection
        await connect()
        await connect()
        await eventually(lambda: sizes(workers) == [1, 1])
        now = balances.monotonic_ns()
        monkeypatch.setattr(balances, "monotonic_ns", lambda: now + int(DEAD_SECONDS * 1e9) + 1)
        for worker in workers:
            worker.balance.opened(len(worker.open))  # a sign of life, which the hanging worker does not give
        await asyncio.gather(connect(), connect())
        await eventually(lambda: sizes(workers) == [2, 2])


async def test_no_connection_waits_for_a_worker_that_has_ended(slots):
    async with serving(slots, workers=2) as (workers, connect):
        slots.write(2, 0, 0)
        slots.clear(2)
        await asyncio.gather(*(connect() for _ in range(6)))
        await eventually(lambda: sizes(workers) == [3, 3])


async def test_the_others_do_not_wait_for_a_worker_without_free_descriptors(slots):
    class Full:
        """A listening socket whose `accept` fails, because the process has no free file descriptor."""

        def __init__(self, listening):
            self.listening = listening

        def accept(self):
            raise OSError(errno.EMFILE, "too many open files")

        def __getattr__(self, name):
            return getattr(self.listening, name)

    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        full, other = Worker(slots, 0), Worker(slots, 1)
        servers = [full.serve(Full(listening.dup())), other.serve(listening.dup())]
        full.balance.start()
        other.balance.start()
        writers = [(await asyncio.open_connection(*listening.getsockname()))[1] for _ in range(5)]
        await eventually(lambda: sizes([full, other]) == [0, 5])
        assert {error.errno for error in reported} == {errno.EMFILE}
        for one in (*writers, *servers):
            one.close()
        for worker in (full, other):
            worker.balance.stop()


async def test_a_closed_server_leaves_connections_to_the_others(slots):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        leaving, staying = Worker(slots, 0), Worker(slots, 1)
        for worker in (leaving, staying):
            worker.balance.start()
        server, other = leaving.serve(listening.dup()), staying.serve(listening.dup())
        server.close()
        server.close()
        leaving.balance.stop()
        writers = [(await asyncio.open_connection(*listening.getsockname()))[1] for _ in range(3)]
        await eventually(lambda: sizes([leaving, staying]) == [0, 3])
        for one in (*writers, other):
            one.close()
        staying.balance.stop()


async def test_a_worker_that_stops_accepting_gives_no_sign_of_life(slots):
    worker = Worker(slots, 0)
    worker.balance.start()
    worker.balance.start()
    assert slots.alive() == [0]
    worker.balance.stop()
    worker.balance.opened(3)
    assert slots.alive() == []
    worker.balance.start()
    assert (slots.alive(), slots.connections(0)) == ([0], 3)
    worker.balance.stop()


def test_slots_count_the_calls_of_live_workers(slots):
    slots.write(0, 5, 3)
    slots.write(1, 5, 4)
    slots.write(2, 5, 9)
    slots.clear(2)
    assert slots.alive() == [0, 1]
    assert slots.calls == 7


def test_a_worker_sees_the_slots_by_the_inherited_descriptor(slots):
    copy = Slots(os.dup(slots.descriptor), slots.count)
    copy.write(1, 17, 2)
    assert slots.connections(1) == 17
    copy.close()
