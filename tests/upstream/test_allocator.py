"""Tests that the settings for glibc's memory allocator have an effect, and that memory is returned after a peak."""

import asyncio
import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gateway.upstream.allocator import freed_memory_returned, map_large_blocks


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
