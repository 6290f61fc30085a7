"""Tests of the upgrade and the rollback of `deploy/upgrade.md`, under load, with the commands of the page.

The older release is this checkout. The newer release is the same code with another version number and, in some tests,
one more migration of the database. Both are installed in one place, one after the other, as pip does it.
"""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections import Counter

import pytest

from gateway.store.schema import MIGRATIONS
from tests.end_to_end.test_restarts import Load, configuration
from tests.helpers.processes import ROOT, START_SECONDS, family
from tests.helpers.waiting import eventually

OLDER, NEWER = "1.0.0", "1.1.0"
CALLS = 30
"""Minimum number of calls between two steps of an upgrade."""
MIGRATION = '\nMIGRATIONS = (*MIGRATIONS, ("CREATE TABLE of_the_newer_release (n INTEGER PRIMARY KEY)",))\n'


class Site:
    """The folder in which a release is installed."""

    def __init__(self, path):
        self.path = path

    def install(self, version, *, migration=False):
        """Replace the installed release by this checkout with another version number. If `migration` is true, this
        release has one more migration of the database.
        """
        fresh = self.path.with_name("fresh")
        shutil.copytree(ROOT / "gateway", fresh / "gateway")
        shutil.copytree(ROOT / "plugins/gateway_plugins", fresh / "gateway_plugins")
        info = fresh / f"irisgate-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: irisgate\nVersion: {version}\n")
        if migration:
            with (fresh / "gateway/store/schema.py").open("a") as file:
                file.write(MIGRATION)
        shutil.rmtree(self.path, ignore_errors=True)
        fresh.rename(self.path)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "site")
    made.install(OLDER)
    return made


async def command(site, folder, *arguments):
    """Run a command of the installed release. Return its status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *map(str, arguments), cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site.path)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(START_SECONDS):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def version(gateway):
    """Return the version of the release that serves requests."""
    async with gateway.session.get(f"{gateway.url}/metrics") as reply:
        return re.search(r'irisgate_build_info\{version="([^"]+)"\}', await reply.text())[1]


async def test_an_upgrade_and_the_way_back_under_load_lose_no_call(tmp_path, bedrock_sim, site):
    options = configuration(tmp_path, bedrock_sim.url)
    async with family(tmp_path, *options, PYTHONPATH=str(site.path)) as gateway:
        load = Load(gateway.url, str(tmp_path / "http.sock"))
        load.begin()
        seen = []
        for step, release in enumerate([NEWER, OLDER]):
            before = len(load.ids)
            await eventually(lambda before=before: len(load.ids) >= before + CALLS)
            status, _, err = await command(site, tmp_path, "backup", f"backup{step}", "--state", tmp_path / "state")
            assert (status, err) == (0, "")
            site.install(release)
            await gateway.restart()
            seen.append(await version(gateway))
        await load.end()
        assert load.faults == []
        await eventually(lambda: len(gateway.entries("gateway.predecessor_ended")) == 2)
        calls = await gateway.stored(len(load.ids))
        await gateway.session.close()
        await gateway.end()
    assert seen == [NEWER, OLDER]
    assert Counter(call["id"] for call in calls) == Counter(load.ids)
    assert {call["outcome"] for call in calls} == {"ok"}


async def stop(gateway):
    os.kill(gateway.current, signal.SIGTERM)
    await gateway.process.wait()


async def test_the_way_back_from_a_newer_schema_is_the_backup(tmp_path, bedrock_sim, site):
    options = configuration(tmp_path, bedrock_sim.url)
    state = tmp_path / "state"
    async with family(tmp_path, *options, PYTHONPATH=str(site.path)) as gateway:
        assert (await gateway.chat())[0] == 200
        assert (await command(site, tmp_path, "backup", "backup", "--state", state))[0] == 0
        site.install(NEWER, migration=True)
        os.kill(gateway.current, signal.SIGUSR2)
        await eventually(lambda: gateway.entries("restart.failed"), START_SECONDS)
        # the old process serves on
        assert (await gateway.chat())[0] == 200
        await stop(gateway)
    async with family(tmp_path, *options, PYTHONPATH=str(site.path)) as gateway:
        assert (await gateway.chat())[0] == 200
        assert (await version(gateway), len(await gateway.stored(3))) == (NEWER, 3)
        await stop(gateway)
    site.install(OLDER)
    status, _, err = await command(site, tmp_path, *options)
    assert status == 2
    assert f"its schema is version {len(MIGRATIONS) + 1}" in err
    status, _, err = await command(site, tmp_path, "restore", "backup", "--state", state)
    assert status == 2
    assert "add --replace" in err
    status, out, err = await command(site, tmp_path, "restore", "backup", "--state", state, "--replace")
    assert (status, err) == (0, "")
    async with family(tmp_path, *options, PYTHONPATH=str(site.path)) as gateway:
        assert (await version(gateway), len(await gateway.stored())) == (OLDER, 1)
        await stop(gateway)
    # the newer state is still there
    (former,) = state.glob("before-restore-*")
    assert str(former) in out
    site.install(NEWER, migration=True)
    status, out, err = await command(site, tmp_path, "usage", "--store", former, "--by", "user", "--csv")
    assert (status, err) == (0, "")
