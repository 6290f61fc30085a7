"""Tests of socket activation and notifications. In place of systemd, the tests start the gateway with passed
descriptors, and read its datagrams.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys

import aiohttp
import pytest

from gateway.process.sockets import CannotListen
from gateway.process.systemd import notify, passed_sockets
from tests.helpers.gateway import EVERYTHING, bedrock
from tests.helpers.processes import environment, running

LAUNCH = """
import fcntl, os, sys
descriptors = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1].split(",")]
for place, descriptor in enumerate(descriptors, 3):
    os.dup2(descriptor, place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(descriptors)), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "gateway", *sys.argv[3:]])
"""
"""A program that numbers its passed descriptors 3, 4 and so on, as systemd does, and then becomes the gateway.

It first copies the descriptors to numbers from 100 on, so that none is overwritten.
"""


def activated(sockets, names, tmp_path, *arguments):
    """Return the command and the options that start a gateway with listening sockets, passed as systemd passes them."""
    numbers = [one.fileno() for one in sockets]
    command = (sys.executable, "-c", LAUNCH, ",".join(map(str, numbers)), ":".join(names), *arguments)
    return command, {"cwd": tmp_path, "pass_fds": numbers}


def configuration(tmp_path, url, listeners, **more):
    path = tmp_path / "config.hujson"
    document = {
        "providers": {"b": bedrock(url)},
        "grants": EVERYTHING,
        "server": {"listeners": [{"listen": listen, "identity": "loopback"} for listen in listeners]},
    }
    path.write_text(json.dumps({**document, **more}))
    return "serve", "--config", str(path), "--state", str(tmp_path / "state")


def opened(address=("127.0.0.1", 0)):
    """Return a listening socket. A host of `::1` gives IPv6, a path gives a unix socket, and other addresses IPv4."""
    if isinstance(address, str):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen()
        return listening
    return socket.create_server(address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET)


def place(listening):
    name = listening.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"{'[::1]' if ':' in name[0] else name[0]}:{name[1]}"


@pytest.fixture
def supervisor(tmp_path):
    """Yield the path of a socket for notifications, and a function that returns the next notification."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.setblocking(False)

        async def following():
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(receiver, 4096), 30)
            return data.decode()

        yield path, following


async def test_sockets_of_systemd_serve_their_listeners_and_outlive_the_gateway(tmp_path, bedrock_sim, supervisor):
    """Check that each listener finds its socket among those that systemd passes, whatever their order.

    A second gateway process uses the same sockets. It serves a client that connected while no process was running.
    """
    notified, following = supervisor
    path = str(tmp_path / "http.sock")
    sockets = [opened(path), opened(("::1", 0)), opened(), opened()]
    places = [place(one) for one in sockets]
    metrics = {"metrics": {"listen": places[3]}}
    arguments = configuration(tmp_path, bedrock_sim.url, reversed(places[:3]), **metrics)
    command, options = activated(sockets, ["unix", "six", "", "metrics"], tmp_path, *arguments)
    options["env"] = environment(tmp_path, NOTIFY_SOCKET=notified)
    for round_ in range(2):
        if round_:
            early = asyncio.create_task(_health(f"http://{places[2]}"))
        async with running(*command, **options) as gateway:
            assert await following() == "READY=1"
            if round_:
                assert await asyncio.wait_for(early, 30) == 200
            assert [await _health(f"http://{where}") for where in places[1:]] == [200] * 3
            assert await _health("http://localhost", aiohttp.UnixConnector(path)) == 200
            gateway.process.send_signal(signal.SIGHUP)
            assert (await following()).startswith("RELOADING=1\nMONOTONIC_USEC=")
            assert await following() == "READY=1"
            assert await gateway.end() == 0
        assert await following() == "STOPPING=1"
        assert sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    for one in sockets:
        one.close()


async def _health(url, connector=None):
    async with aiohttp.ClientSession(connector=connector) as session, session.get(f"{url}/healthz") as reply:
        return reply.status


async def test_a_socket_without_a_listener_is_refused(tmp_path, bedrock_sim):
    with opened() as used, opened() as other:
        arguments = configuration(tmp_path, bedrock_sim.url, [place(used)])
        command, options = activated([used, other], ["http", "more"], tmp_path, *arguments)
        process = await asyncio.create_subprocess_exec(
            *command, stderr=subprocess.PIPE, env=environment(tmp_path), **options
        )
        _, error = await asyncio.wait_for(process.communicate(), 120)
        where = place(other)
    assert process.returncode == 2
    assert f'a socket on {where} ("more") was passed, and no listener' in error.decode()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "-1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a"},
        {"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid())},
    ],
)
def test_variables_for_another_process_or_without_a_number_pass_nothing(variables):
    assert passed_sockets(variables) == []
    assert variables == {}


def test_a_descriptor_that_does_not_listen_is_named():
    """Check that if a passed descriptor is not a listening socket, the error names it.

    The test runs another process, because passed descriptors have the numbers from 3 on.
    """
    program = (
        "import os, socket, sys\n"
        "from gateway.process.systemd import passed_sockets\n"
        "one = socket.socket(socket.AF_INET, getattr(socket, sys.argv[1]))\n"
        "os.dup2(one.fileno(), 3)\n"
        "passed_sockets({'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'web'})\n"
    )
    for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
        command = [sys.executable, "-c", program, kind]
        ended = subprocess.run(command, capture_output=True, check=False)
        assert CannotListen.__name__.encode() in ended.stderr
        assert b'descriptor 3 ("web") of LISTEN_FDS is no listening socket' in ended.stderr


@pytest.mark.parametrize("path", ["", "relative", "/nowhere/to/be/found", "vsock:2:1"])
def test_a_supervisor_that_cannot_be_reached_is_no_fault(monkeypatch, path):
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    notify("READY=1")


def test_a_notification_reaches_an_abstract_socket(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0irisgate-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@irisgate-{os.getpid()}")
        notify("READY=1")
        assert receiver.recv(100) == b"READY=1"
