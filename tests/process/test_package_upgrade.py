"""Tests of an installed package that is upgraded while the gateway runs. A restart loads the new code. A reload loads
it only with `serve --dev`.
"""

import io
import json
import os
import signal
from functools import partial

import pytest

from tests.helpers.authors_mistakes import FLAG, OBSERVER
from tests.helpers.gateway import EVERYTHING
from tests.helpers.installed import install
from tests.helpers.processes import family
from tests.helpers.waiting import eventually
from tests.process.test_development import ACME, developing

LARGE = 2_000_000
"""Size in bytes of a prompt that is so large that a worker process reads it."""
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


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a folder from which new processes import modules, with version 1 of the package."""
    folder = tmp_path / "site"
    folder.mkdir()
    install_version(folder, "1")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
async def running(tmp_path, site):
    """Yield a gateway with version 1 of the package."""
    config = tmp_path / "config.json"
    listener = {"listeners": [{"listen": "127.0.0.1:0"}], "drain_seconds": 1}
    config.write_text(json.dumps({"providers": {"acme": ACME}, "grants": EVERYTHING, "server": listener}))
    async with family(tmp_path, "serve", "--config", str(config), "--state", str(tmp_path / "state")) as gateway:
        yield gateway


async def answer(running, size=1):
    """Send a prompt of `size` bytes. Return the text of the plugin's refusal, which tells the package's version."""
    body = io.BytesIO(json.dumps({"model": "m", "prompt": "x" * size}).encode())
    async with running.session.post(f"{running.url}/acme/v1/text", data=body) as reply:
        return (await reply.json())["error"]["message"]


async def test_a_restart_takes_the_new_version_and_a_reload_names_it(running, site):
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
    assert await answer(running) == "words of 2 2"
    started = [line["packages"] for line in running.entries("plugins.installed")]
    assert [[name for name in names if "acme-plugins" in name] for names in started] == [
        ["acme-plugins 1"],
        ["acme-plugins 2"],
    ]
    await running.end()


async def test_a_broken_upgrade_leaves_the_old_process_in_service(running, site):
    install_version(site, "2", "raise SystemExit(0)\n")
    os.kill(running.current, signal.SIGUSR2)
    await running.line("restart.failed")
    assert [line["reason"] for line in running.entries("restart.failed")] == ["the new process ended with status 2"]
    assert running.entries("handover.failed") == []
    assert await answer(running) == "words of 1 1"
    await running.end()


async def test_a_developing_gateway_takes_the_new_version_at_a_hang_up(tmp_path, site):
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "watching.py").write_text(OBSERVER)
    async with developing(tmp_path, folder) as (served, _):
        install_version(site, "2")
        assert await answer(served) == "words of 1 1"
        served.process.send_signal(signal.SIGHUP)
        await eventually(partial(answers, served, "words of 2 2"), 60)
        assert await served.end() == 0


async def answers(served, text):
    return await answer(served) == text
