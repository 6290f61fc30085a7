"""Tests of an installed package that is upgraded while the gateway runs: a restart takes the new code, and only it."""

import io
import json
import os
import signal
from contextlib import asynccontextmanager
from functools import partial

from tests.helpers.authors_mistakes import FLAG
from tests.helpers.gateway import EVERYTHING
from tests.helpers.installed import install
from tests.helpers.processes import ROOT, family
from tests.helpers.waiting import eventually
from tests.process.test_development import ACME

LARGE = 2_000_000
"""Size in bytes of a prompt that a worker process reads."""
SPEAKING = (
    FLAG.replace('"""Acme\'s text API."""\n', '"""Acme\'s text API."""\n\nfrom gateway.contract.errors import invalid')
    + """

def parse(request):
    from acme_words import word

    raise invalid(f"{word()} VERSION")
"""
)
WORDS = "def word():\n    return 'words of VERSION'\n"


def install_version(site, version, source=SPEAKING):
    files = {"acme_plugin.py": source, "acme_words.py": WORDS}
    install(site, files={path: text.replace("VERSION", version) for path, text in files.items()}, version=version)


def paths(site):
    return os.pathsep.join([str(ROOT), str(ROOT / "plugins"), str(site)])


@asynccontextmanager
async def gateway(tmp_path):
    """Run a gateway with version 1 of the package, and yield it with the folder of the package and its own output."""
    site, config = tmp_path / "site", tmp_path / "config.json"
    site.mkdir()
    install_version(site, "1")
    listener = {"listeners": [{"listen": "127.0.0.1:0"}], "drain_seconds": 1}
    config.write_text(json.dumps({"providers": {"acme": ACME}, "grants": EVERYTHING, "server": listener}))
    options = "serve", "--config", str(config), "--state", str(tmp_path / "state")
    async with family(tmp_path, *options, PYTHONPATH=paths(site)) as running:
        yield running, site


async def answer(running, size=1):
    """Return the text with which the plugin refuses a request of some size."""
    body = io.BytesIO(json.dumps({"model": "m", "prompt": "x" * size}).encode())
    async with running.session.post(f"{running.url}/acme/v1/text", data=body) as reply:
        return (await reply.json())["error"]["message"]


async def test_a_restart_takes_the_new_version_and_a_reload_names_it(tmp_path):
    async with gateway(tmp_path) as (running, site):
        install_version(site, "2")
        for size in (1, LARGE):
            assert await answer(running, size) == "words of 1 1"
        os.kill(running.current, signal.SIGHUP)
        await running.line("config.reloaded")
        (line,) = running.entries("plugins.upgraded")
        assert line["packages"] == ["acme-plugins 1 runs and 2 is installed"]
        for size in (1, LARGE):
            assert await answer(running, size) == "words of 1 1"
        await running.restart()
        for size in (1, LARGE):
            assert await answer(running, size) == "words of 2 2"
        started = [line["packages"] for line in running.entries("plugins.installed")]
        assert [[name for name in names if "acme-plugins" in name] for names in started] == [
            ["acme-plugins 1"],
            ["acme-plugins 2"],
        ]
        await running.end()


BROKEN = ("import acme_sdk\n", "raise SystemExit(0)\n")


def has_more(running, event, count):
    return len(running.entries(event)) > count


async def test_a_broken_upgrade_leaves_the_old_process_in_service(tmp_path):
    async with gateway(tmp_path) as (running, site):
        for source in BROKEN:
            failed = len(running.entries("restart.failed"))
            install_version(site, "2", source)
            os.kill(running.current, signal.SIGUSR2)
            await eventually(partial(has_more, running, "restart.failed", failed), 60)
            assert await answer(running) == "words of 1 1"
        assert {line["reason"] for line in running.entries("restart.failed")} == {"the new process ended with status 2"}
        assert running.entries("handover.failed") == []
        install_version(site, "3")
        await running.restart()
        assert await answer(running) == "words of 3 3"
        await running.end()
