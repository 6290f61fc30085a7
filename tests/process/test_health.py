"""Tests of the command `irisgate-health`, which is run by health checks."""

import asyncio
import socket
import subprocess
import sys

import pytest

from gateway.process.health import main
from tests.helpers.gateway import gate


@pytest.fixture
async def gw(tmp_path):
    async with gate(tmp_path, {}) as running:
        yield running


async def asked(*arguments):
    return await asyncio.to_thread(main, [*arguments, "--timeout", "20"])


@pytest.mark.parametrize("options", [[], ["--alive"]])
async def test_a_gateway_that_can_serve_is_healthy(gw, options, capsys):
    assert await asked(gw.url, *options) == 0
    assert capsys.readouterr().out.startswith("200 ")


async def test_a_unix_socket_is_asked_too(tmp_path, capsys):
    listener = {"listen": f"unix:{tmp_path}/http.sock", "identity": "serve-headers"}
    async with gate(tmp_path, {}, server={"listeners": [{"listen": "127.0.0.1:0"}, listener]}):
        assert await asked(listener["listen"]) == 0
    assert await asked(listener["listen"]) == 1
    assert "No such file" in capsys.readouterr().err


async def test_a_gateway_that_refuses_calls_is_unhealthy_and_alive(gw, capsys):
    gw.running.gateway.draining = True
    assert await asked(gw.url) == 1
    assert '"status":"draining"' in capsys.readouterr().out.replace(" ", "")
    assert await asked(gw.url, "--alive") == 0


@pytest.mark.parametrize("address", ["https://127.0.0.1:1", "nonsense", "unix:", "http://127.0.0.1:99999", "http://["])
def test_an_address_that_cannot_be_asked_is_unhealthy(address, capsys):
    assert main([address]) == 1
    assert address in capsys.readouterr().err


def test_a_server_that_never_answers_is_unhealthy(capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert main([f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.1"]) == 1
    assert "timed out" in capsys.readouterr().err


def test_the_command_imports_no_part_of_the_gateway_but_its_own():
    code = (
        "import sys, gateway.process.health; print([name for name in sys.modules if name.split('.')[0] == 'aiohttp'])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
