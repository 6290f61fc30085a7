"""Ports of other processes on this machine."""

import asyncio


async def is_listening(port):
    """Return whether a process accepts connections to a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
