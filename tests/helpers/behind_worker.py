"""A gateway behind a worker, all in the test's process. The worker accepts the connections, and passes every request on
to the gateway.

In a gateway with workers, the worker processes serve the calls. Requests for pages go from a worker to the keeper, the
main process. The worker here serves no calls, so that every request goes to the keeper.
"""

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from gateway.call.guard import Guard
from gateway.process.http import SERVED_HEADER_BYTES
from gateway.process.sites import Sites
from gateway.process.workers.forwarded import PrivateListener
from gateway.process.workers.pages import Pages
from gateway.telemetry.metrics import Metrics
from gateway.web.connection_limits import Connections
from gateway.web.http_server import Runner


@dataclass
class Behind:
    """A worker in front of the keeper (the main process): the connections of the worker's clients, and the socket by
    which the worker passes requests on to the keeper.
    """

    listener: PrivateListener
    """The socket by which the keeper (the main process) gets requests from workers."""
    connections: Connections
    """The connections between clients and the worker."""


@asynccontextmanager
async def behind_worker(gate, state):
    """Put a worker in front of a running gateway. From then on, the worker accepts all connections.

    The gateway becomes the keeper (the main process).
    """
    running = gate.running
    gateway, sites = running.gateway, running.sites
    modes, (keeper, _, configured) = sites._modes, sites._served
    async with AsyncExitStack() as stack:
        await sites.pause()
        listener = PrivateListener(state, modes, keeper.server, gateway.log)
        await listener.start()
        stack.callback(listener.close)
        pages = Pages(Guard(gateway, modes), state)
        connections = Connections(
            lambda: configured().server.limits, Metrics(gateway.runtime.config), gateway.log, modes.client
        )
        worker = Runner(
            web.Application(),
            connections,
            lambda _others, request: pages.handle(request),
            handler_cancellation=True,
            auto_decompress=False,
            max_line_size=SERVED_HEADER_BYTES,
            max_field_size=SERVED_HEADER_BYTES,
        )
        await worker.setup()
        stack.push_async_callback(worker.cleanup)
        front = Sites(sites.bounds, modes)
        await front.start(worker, connections, configured)
        stack.push_async_callback(front.pause)
        yield Behind(listener, connections)
