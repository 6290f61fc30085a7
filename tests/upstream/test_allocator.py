"""Tests that glibc takes the allocator's settings, that memory is returned after a peak, and that no read allocates a
block that glibc maps separately.
"""

import asyncio
import ctypes
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gateway.upstream import allocator
from gateway.upstream.allocator import READ_BYTES, freed_memory_returned, limit_reads, map_large_blocks
from gateway.upstream.http1.connection import Connection
from gateway.upstream.http1.tls import BUFFER_BYTES, start_tls, tls_context
from tests.helpers.tls import certified, server_tls

SENT = 300 * 1024
"""Number of bytes that the test sends: more than asyncio reads in one call by default."""


async def test_every_setting_is_taken_by_glibc(monkeypatch):
    real, results = ctypes.CDLL(None), []

    def mallopt(parameter, value):
        results.append(real.mallopt(parameter, value))

    library = SimpleNamespace(mallopt=mallopt, mallinfo2=real.mallinfo2)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    map_large_blocks()
    async with freed_memory_returned():
        assert results == [1] * 6
        assert asyncio.all_tasks() > {asyncio.current_task()}
    del library.mallinfo2
    async with freed_memory_returned():
        assert results == [1] * 9
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    map_large_blocks()
    async with freed_memory_returned():
        assert asyncio.all_tasks() == {asyncio.current_task()}


PEAKS = """
import asyncio, sys
from gateway.upstream import allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * allocator._PAGE_BYTES

async def fallen(most):
    while resident() > most:
        await asyncio.sleep(0.05)

async def main():
    allocator._SECONDS = 0.02
    async with allocator.freed_memory_returned():
        before = resident()
        small = []
        for _ in range(3):
            bodies = []
            for number in range(60):
                bodies.append(b"x" * (300_000 * (1 + number % 9)))
                small.append(b"y" * 5_000)
            assert resident() > before + 70_000_000
            await asyncio.sleep(0.1)  # so that the memory is looked at while it is used
            assert resident() > before + 70_000_000
            del bodies[:30]
            await fallen(before + 70_000_000)
            del bodies[:]
            await asyncio.wait_for(fallen(before + 15_000_000), 20)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library is no glibc from 2.33 on")
def test_memory_is_returned_after_each_peak_of_bodies():
    subprocess.run([sys.executable, "-c", PEAKS], check=True, timeout=60)


class Reader(asyncio.Protocol):
    """A protocol that stores the size of each read."""

    def __init__(self):
        self.sizes = []
        self.all_read = asyncio.Event()

    def connection_made(self, transport):
        limit_reads(transport)

    def data_received(self, data):
        self.sizes.append(len(data))
        if sum(self.sizes) == SENT:
            self.all_read.set()


def test_a_buffer_for_a_read_is_not_mapped():
    assert max(READ_BYTES, BUFFER_BYTES) + 4096 < dict(allocator._MAPPED)[allocator._MMAP_THRESHOLD]


async def test_no_read_is_larger_than_its_limit():
    mine, other = socket.socketpair()
    for end, option in ((mine, socket.SO_RCVBUF), (other, socket.SO_SNDBUF)):
        end.setsockopt(socket.SOL_SOCKET, option, 4 * SENT)
    reader = Reader()
    with other:
        sent = asyncio.create_task(asyncio.to_thread(other.sendall, bytes(SENT)))
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: reader, sock=mine)
        await reader.all_read.wait()
        await sent
        transport.abort()
    assert max(reader.sizes) <= READ_BYTES


async def test_no_read_of_tls_is_larger_than_its_limit(tmp_path, monkeypatch):
    certificate = certified(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    tls_context.cache_clear()

    async def send(_, writer):
        writer.write(bytes(SENT))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(send, "localhost", 0, ssl=server_tls(*certificate)) as server:
        reader, sock = Reader(), socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
        await start_tls(sock, reader, tls_context(""), "localhost")
        await reader.all_read.wait()
    assert max(reader.sizes) <= BUFFER_BYTES
    tls_context.cache_clear()


def test_another_event_loop_is_left_alone():
    class Transport:
        __slots__ = ()

    limit_reads(Transport())


async def test_a_connection_to_a_provider_has_the_limit():
    mine, other = socket.socketpair()
    with other:
        connection = Connection(None, lambda _: None)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: connection, sock=mine)
        assert transport.max_size == READ_BYTES
        connection.abort()
