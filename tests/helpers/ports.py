"""Free ports for other processes on this machine, and a check whether a process listens to a port."""

import asyncio
import random
import socket
from contextlib import asynccontextmanager

from tests.helpers.waiting import eventually

BELOW = 32_000
"""Upper limit of the ports that tests choose. Linux takes only higher ports for outgoing connections."""


async def is_listening(port):
    """Return whether a process accepts connections to a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def listening(*command, port, **options):
    """Run a program that listens to a port, during an `async with` block. `options` are arguments of
    `asyncio.create_subprocess_exec`.
    """
    process = await asyncio.create_subprocess_exec(*command, **options)

    async def answers():
        assert process.returncode is None, f"{command[0]} has ended"
        return await is_listening(port)

    try:
        await eventually(answers)
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def lasting_port():
    """Return a free port that no outgoing connection takes while a test restarts the process that listens to it."""
    while True:
        port = random.randrange(BELOW // 2, BELOW)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
