"""Tests of the HTTP client with which filters send requests of their own: to which hosts it connects, and when its
requests end.
"""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.config.server import Fetching
from gateway.upstream.fetch.client import Fetcher
from gateway.upstream.fetch.filter_client import MAX_REPLY, FilterClient
from tests.helpers.waiting import eventually

METADATA = "169.254.169.254"


@pytest.fixture
def fetcher():
    made = Fetcher()
    yield made
    made.close()


@pytest.fixture
async def server():
    """A server that answers with a redirect, with a reply that is too large, or never. It records the requested paths."""
    paths = []

    async def answer(request):
        paths.append(request.path)
        if request.path == "/redirect":
            raise web.HTTPFound("/other")
        if request.path == "/never":
            await asyncio.Event().wait()
        return web.Response(body=b"x" * (MAX_REPLY + 1) if request.path == "/large" else b"{}")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as running:
        running.paths = paths
        yield running


def client_of(fetcher, server):
    """Return a client that may connect to the server, although the server's address is private."""
    return FilterClient(fetcher, Fetching(private_hosts=(f"127.0.0.1:{server.port}",)))


@pytest.mark.parametrize(
    "url",
    [
        f"http://{METADATA}/latest/meta-data/", "http://2852039166/", "http://0xa9fea9fe/", "http://[::ffff:a9fe:a9fe]/",
        "http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://127.0.0.1/", "http://127.1/", "http://[::1]/",
        "http://localhost/", "http://100.101.102.103/", "http://10.0.0.1/", "http://0.0.0.0/", "file:///etc/passwd",
        "http://user:password@127.0.0.1/", "http://1.1.1.1:22/", "", "http://@[",
    ],
)  # fmt: skip
async def test_a_filters_request_to_an_inner_address_is_refused(fetcher, url):
    with pytest.raises(ConnectionError):
        await FilterClient(fetcher, Fetching()).send("GET", url)


async def test_metadata_is_refused_even_if_the_configuration_lists_it(fetcher):
    with pytest.raises(ConnectionError):
        await FilterClient(fetcher, Fetching(private_hosts=(METADATA,))).send("GET", f"http://{METADATA}/")


async def test_a_redirect_is_returned_and_not_followed(fetcher, server):
    reply = await client_of(fetcher, server).send("GET", str(server.make_url("/redirect")))
    assert (reply.status, reply.headers["location"], server.paths) == (302, "/other", ["/redirect"])


async def test_a_reply_of_more_than_the_maximum_is_an_error(fetcher, server):
    with pytest.raises(ConnectionError, match=f"more than {MAX_REPLY} bytes"):
        await client_of(fetcher, server).send("GET", str(server.make_url("/large")))


async def test_the_end_of_the_call_cancels_requests_and_allows_no_new_ones(fetcher, server):
    client = client_of(fetcher, server)
    waiting = asyncio.create_task(client.send("POST", str(server.make_url("/never")), json={}))
    await eventually(lambda: server.paths == ["/never"])
    client.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(ConnectionError, match="its client is closed"):
        await client.send("GET", str(server.make_url("/")))
    assert server.paths == ["/never"]
