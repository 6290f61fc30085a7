"""Tests of the script deploy/try-tailnet, with simulated programs in place of tailscale and tailscaled.

The simulated tailscaled works like the real one in userspace mode. It accepts a node's connection, and opens another
one to the same port of 127.0.0.1. When whois asks about the second connection, it names the node.
"""

import asyncio
import json
import os
import shutil
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from tests.helpers.processes import ROOT, Served, environment

SCRIPT = str(ROOT / "deploy/try-tailnet")
AUTH_KEY = "tskey-auth-canary"

TAILSCALED = """#!{python}
import asyncio, json, os, pathlib, signal, sys

from gateway.testkit.localapi import LocalApiSim
from gateway.testkit.tailnet_nodes import Node, User

FOLDER = pathlib.Path({folder!r})
BOB = User("bob@example.com")
CAPS = {{"tailscale.com/cap/aperture": [{{"role": "admin"}}]}}
NODES = (
    Node("alice.example.ts.net", ("100.64.0.7",), User("alice@example.com")),
    Node("builder.example.ts.net", ("100.64.0.8",), tags=("tag:prod", "tag:ci")),
    Node("bob.example.ts.net", ("100.64.0.9",), BOB, caps=CAPS),
)


async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def main(path, port):
    async with LocalApiSim(path) as sim:
        def relay(node):
            async def connected(reader, writer):
                inner, outer = await asyncio.open_connection("127.0.0.1", port)
                ours = outer.get_extra_info("sockname")[1]
                sim.proxied(ours, node)
                await asyncio.gather(pump(reader, outer), pump(inner, writer), return_exceptions=True)
                sim.unproxied(ours)

            return connected

        places = {{}}
        for node in NODES:
            sim.add(node)
            server = await asyncio.start_server(relay(node), "127.0.0.1", 0)
            places[node.host] = server.sockets[0].getsockname()[1]
        (FOLDER / "places.json").write_text(json.dumps(places))
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
    (FOLDER / "ended").touch()


arguments = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
(FOLDER / "daemon.json").write_text(json.dumps({{"pid": os.getpid(), **arguments}}))
assert "TS_AUTHKEY" not in os.environ
asyncio.run(main(arguments["socket"], {port}))
"""

TAILSCALE = """#!{python}
import json, os, pathlib, sys

folder = pathlib.Path({folder!r})
with (folder / "asked").open("a") as lines:
    print(*sys.argv[2:], file=lines)
assert "TS_AUTHKEY" not in os.environ
for argument in sys.argv:
    if argument.startswith("--auth-key=file:"):
        (folder / "key").write_text(pathlib.Path(argument.partition(":")[2]).read_text())
if "up" in sys.argv and (folder / "refuse").exists():
    sys.exit("backend error: invalid key")
if "up" in sys.argv:
    print("To authenticate, visit: https://login.example.com/a/1")
if "status" in sys.argv:
    print(json.dumps({{"Self": {{"DNSName": "irisgate-try-1.example.ts.net.", "TailscaleIPs": ["100.64.0.20"]}}}}))
"""


class Tailnet:
    """Simulated programs tailscale and tailscaled, which record the commands that they get, and a free port for the
    gateway.
    """

    def __init__(self, folder, temporary):
        self.folder = folder
        self.temporary = temporary
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.name = f"irisgate-try-1:{self.port}"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name, source in (("tailscaled", TAILSCALED), ("tailscale", TAILSCALE)):
            path = self.bin / name
            path.write_text(source.format(python=sys.executable, folder=str(folder), port=self.port))
            path.chmod(0o755)

    @property
    def daemon(self):
        return json.loads((self.folder / "daemon.json").read_text())

    @property
    def commands(self):
        return (self.folder / "asked").read_text().splitlines()

    def environment(self, **more):
        path = os.pathsep.join([str(self.bin), os.environ["PATH"]])
        return environment(
            self.folder, PATH=path, TMPDIR=str(self.temporary), IRISGATE_PYTHON=sys.executable,
            IRISGATE_PORT=str(self.port), **more,
        )  # fmt: skip

    @asynccontextmanager
    async def joined(self, *arguments, **more):
        process = await asyncio.create_subprocess_exec(
            SCRIPT, *arguments, cwd=self.folder, env=self.environment(**more), stdout=asyncio.subprocess.PIPE
        )
        async with aiohttp.ClientSession() as session:
            running = Served(process, session)
            try:
                running.url = (await running.line(r"listening on (http://\S+)"))[1]
                yield running
            finally:
                if process.returncode is None:
                    await running.end()

    async def whoami(self, running, node):
        port = json.loads((self.folder / "places.json").read_text())[node]
        url = f"http://127.0.0.1:{port}/api/whoami"
        async with running.session.get(url, headers={"Host": self.name}) as reply:
            return reply.status, await reply.json()


@pytest.fixture
def tailnet(tmp_path):
    # tailscaled's socket is in there: the path of one has 107 letters at most, and pytest's own folders are long
    with TemporaryDirectory() as temporary:
        yield Tailnet(tmp_path, Path(temporary))


async def test_each_step_of_the_recipe_answers_as_it_says(tailnet):
    async with tailnet.joined() as running:
        text = "\n".join(running.lines)
        assert "https://login.example.com/a/1" in text
        assert f"curl http://{tailnet.name}/api/whoami" in text
        assert f"http://irisgate-try-1.example.ts.net:{tailnet.port}" in text
        assert ('"dst": ["100.64.0.20"]' in text, f"curl {running.url}/api/whoami" in text) == (True, True)
        status, alice = await tailnet.whoami(running, "alice")
        assert (status, alice["login"], alice["role"]) == (200, "alice@example.com", "user")
        status, builder = await tailnet.whoami(running, "builder")
        assert (status, builder["login"], builder["role"]) == (200, "tag:ci,tag:prod", "user")
        assert sorted(builder["tags"]) == ["tag:ci", "tag:prod"]
        status, bob = await tailnet.whoami(running, "bob")
        assert (status, bob["login"], bob["role"]) == (200, "bob@example.com", "admin")
        async with running.session.get(running.url + "/api/whoami") as reply:
            assert (reply.status, (await reply.json())["error"][:13]) == (403, "access denied")


async def test_at_the_end_nothing_runs_and_nothing_is_left(tailnet):
    async with tailnet.joined("ai-try") as running:
        daemon = tailnet.daemon
        assert (daemon["tun"], daemon["state"]) == ("userspace-networking", "mem:")
        assert os.getsid(daemon["pid"]) == daemon["pid"], "Ctrl-C does not reach it"
        assert await running.end() == 143
    assert tailnet.commands == ["up --hostname=ai-try", "status --json", "logout"]
    assert (tailnet.folder / "ended").exists(), "tailscaled was asked to end, and waited for"
    assert list(tailnet.temporary.iterdir()) == []


async def test_a_kept_folder_keeps_the_machine_on_the_tailnet(tailnet):
    for _ in range(2):
        async with tailnet.joined("--keep", "kept") as running:
            assert await running.end() == 143
    folder = tailnet.folder / "kept"
    assert tailnet.daemon["state"] == f"{folder}/tailscaled.state"
    assert "logout" not in tailnet.commands
    config = json.loads((folder / "config.hujson").read_text())
    assert config["server"]["hosts"] == ["irisgate-try-1", "irisgate-try-1.example.ts.net"]
    (listener,) = config["server"]["listeners"]
    assert (listener["identity"], listener["tailscaled"]) == ("whois", f"{folder}/tailscaled.sock")


async def test_another_control_server_may_be_named(tailnet):
    async with tailnet.joined("--login-server", "https://headscale.example.com", "--keep", "kept", "ai-try") as running:
        assert await running.end() == 143
    assert tailnet.commands[0] == "up --hostname=ai-try --login-server=https://headscale.example.com"


async def test_an_auth_key_goes_by_a_file_that_does_not_stay(tailnet):
    async with tailnet.joined("--keep", "kept", TS_AUTHKEY=AUTH_KEY) as running:
        assert (tailnet.folder / "key").read_text() == AUTH_KEY
        assert AUTH_KEY not in "\n".join([*running.lines, *tailnet.commands])
    left = [path for path in (tailnet.folder / "kept").rglob("*") if path.is_file()]
    assert [path for path in left if AUTH_KEY.encode() in path.read_bytes()] == []


async def test_a_login_that_fails_ends_it_and_leaves_nothing_behind(tailnet):
    (tailnet.folder / "refuse").touch()
    process = await asyncio.create_subprocess_exec(
        SCRIPT, cwd=tailnet.folder, env=tailnet.environment(TS_AUTHKEY=AUTH_KEY), stderr=asyncio.subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, b"tailscale up failed" in err, AUTH_KEY.encode() in err) == (1, True, False)
    assert (tailnet.folder / "ended").exists()
    assert list(tailnet.temporary.iterdir()) == []


async def test_a_machine_without_tailscale_is_told_where_to_get_it(tmp_path):
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", SCRIPT, env={"PATH": str(tmp_path)}, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"needs tailscaled" in err
    assert b"https://tailscale.com/download" in err


@pytest.mark.parametrize(
    "arguments", [["Not A Name"], ["--unknown"], ["--keep"], ["--login-server"], ["--keep", "x", "--keep"]]
)
async def test_a_wrong_argument_is_told_before_anything_starts(tmp_path, arguments):
    process = await asyncio.create_subprocess_exec(
        SCRIPT, *arguments, env=environment(tmp_path), cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert (process.returncode, err != b"") == (2, True)
    assert not (tmp_path / "x").exists()
