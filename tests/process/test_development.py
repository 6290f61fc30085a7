"""Tests of `irisgate serve --dev`, which loads changed plugins at once. Without this option, changed code is ignored
until a restart.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.config.load import load
from gateway.contract.registry import discover
from gateway.process.command_line import main
from gateway.process.development import child_command
from gateway.process.reload import Reloader
from gateway.process.serve import listening
from gateway.telemetry.log import configure
from gateway.upstream.process_pool import NO_DROP, ProcessPool
from tests.helpers.authors_mistakes import FLAG
from tests.helpers.gateway import Lines
from tests.helpers.processes import Served, environment
from tests.helpers.waiting import eventually
from tests.process.test_serve import document

ACME = {
    "baseurl": "http://127.0.0.1:9",
    "apikey": "k",
    "models": ["m"],
    "compatibility": {"acme": True},
}
HELPING = """from ._words import word

api = 1


def seen(record):
    pass


def work(number):
    from .lazily import more
    return f"{word()} {more()}"
"""


@asynccontextmanager
async def developing(tmp_path, folder):
    """Run `irisgate serve --dev`. Yield the gateway, and the file to which its standard error is written."""
    file, errors = tmp_path / "config.hujson", tmp_path / "errors"
    file.write_text(json.dumps({**document(), "providers": {"acme": ACME}}))
    options = ("--config", file, "--state", tmp_path / "state", "--plugins", folder, "--dev")
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", *map(str, options)),
            stdout=asyncio.subprocess.PIPE, stderr=stderr, cwd=tmp_path, env=environment(tmp_path),
        )  # fmt: skip
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        served = Served(process, session)
        try:
            served.url = (await served.line(r"listening on (http://\S+)"))[1]
            yield served, errors
        finally:
            if process.returncode is None:
                await served.end()


async def reaches_the_plugin(served, path):
    async with served.session.post(f"{served.url}{path}", json={"model": "none"}) as reply:
        return "not found or not granted" in await reply.text()


async def test_new_code_is_served_and_a_mistake_changes_nothing(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir()
    plugin = folder / "acme.py"
    plugin.write_text(FLAG)
    async with developing(tmp_path, folder) as (served, errors):
        assert await reaches_the_plugin(served, "/acme/v1/text")
        plugin.write_text(FLAG.replace("/acme/v1/text", "/acme/v2/text"))
        await eventually(lambda: reaches_the_plugin(served, "/acme/v2/text"), 30)
        assert not await reaches_the_plugin(served, "/acme/v1/text")
        plugin.write_text(FLAG.replace("api = 1", "api = 2"))
        await eventually(lambda: "the change is not taken" in errors.read_text(), 30)
        assert f"{plugin}:5: plugin acme: api = 2; write api = 1" in errors.read_text()
        assert await reaches_the_plugin(served, "/acme/v2/text")
        assert await served.end() == 0


def test_the_child_processes_have_the_same_command_line_but_for_the_option():
    assert child_command(["irisgate", "serve", "--dev", "--plugins", "-", "--de"]) == [
        "irisgate",
        "serve",
        "--plugins",
        "-",
    ]


def test_the_option_needs_a_folder(tmp_path, capfd):
    assert main(["serve", "--config", str(tmp_path / "c"), "--state", str(tmp_path), "--dev"]) == 2
    assert "--dev needs a folder of plugin files; name it with --plugins DIR" in capfd.readouterr().err


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "helping.py").write_text(HELPING)
    (folder / "_words.py").write_text("def word():\n    return 'old'\n")
    (folder / "lazily.py").write_text("api = 1\n\n\ndef seen(record):\n    pass\n\n\ndef more():\n    return 'old'\n")
    return folder


CHANGES = {
    "the plugin": lambda folder: (folder / "helping.py").write_text("def work(number):\n    return 'new'\n"),
    "a helper": lambda folder: (folder / "_words.py").write_text("def word():\n    return 'new'\n"),
    "a module that is imported later": lambda folder: (folder / "lazily.py").write_text("more = lambda: 'new'\n"),
    "a mistake": lambda folder: (folder / "helping.py").write_text("def work(:\n"),
    "no file": lambda folder: (folder / "helping.py").unlink(),
    "no folder": lambda folder: folder.rename(folder.with_name("elsewhere")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_worker_processes_run_the_code_with_which_the_gateway_started(folder, change):
    work = discover(folder).observers["helping"]["seen"].function.__globals__["work"]
    change(folder)
    pool = ProcessPool()
    try:
        assert await pool.run(10_000_000, NO_DROP, work, 1) == "old old"
        assert work(1) == "old old"
    finally:
        pool.close()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_reload_warns_of_changed_code_that_does_not_run(tmp_path, folder, change):
    path = tmp_path / "config.hujson"
    path.write_text(json.dumps(document()))
    registry, lines = discover(folder), Lines()
    loaded = load(path, plugins=registry.known)
    async with listening(loaded.config, registry, state=tmp_path, log=configure(lines)) as running:
        reloader = Reloader(path, running.gateway, None, loaded)
        await reloader.reload()
        await lines.until("config.reloaded")
        change(folder)
        await reloader.reload()
        (line,) = await lines.until("plugins.changed")
        assert set(line["files"]) <= {str(folder / name) for name in ("helping.py", "_words.py", "lazily.py")}
        assert line["files"]
