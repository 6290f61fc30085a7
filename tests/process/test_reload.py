"""Tests of reloading the configuration: a valid changed file takes effect, and an invalid file changes nothing."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

from gateway.config.document.watch import stamps
from gateway.config.load import load, loads
from gateway.contract.registry import discover
from gateway.process import reload
from gateway.process.reload import Reloader, fixed_changes
from gateway.process.serve import listening
from gateway.telemetry.log import configure
from tests.helpers.gateway import HAIKU, Lines
from tests.helpers.tls import authority
from tests.process.test_serve import document


@asynccontextmanager
async def reloading(tmp_path, **more):
    """Yield a gateway that was started from a file, and its reloader."""
    path = tmp_path / "config.hujson"
    path.write_text(json.dumps(document(**more)))
    registry, lines = discover(), Lines()
    loaded = load(path, plugins=registry.known)
    async with listening(loaded.config, registry, state=tmp_path, log=configure(lines)) as running:
        yield path, Reloader(path, running.gateway, None, loaded), lines


@asynccontextmanager
async def following(reloader):
    task = asyncio.create_task(reloader.follow())
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_change_between_loading_and_following_is_not_missed(tmp_path):
    async with reloading(tmp_path) as (path, reloader, lines):
        path.write_text(json.dumps(document(models=[HAIKU])))
        async with following(reloader):
            await lines.until("config.reloaded")
        assert reloader.gateway.runtime.config.providers["b"].models == (HAIKU,)


async def test_following_goes_on_after_watching_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(reload, "WATCH_AGAIN_SECONDS", 0.05)
    async with reloading(tmp_path) as (path, reloader, lines):
        good, reloader._watched = reloader._watched, None
        async with following(reloader) as task:
            await lines.until("config.watch_failed")
            reloader._watched = good
            path.write_text(json.dumps(document(models=[HAIKU])))
            await lines.until("config.reloaded")
            assert not task.done()


async def test_a_secret_whose_file_cannot_be_looked_at_stops_no_later_reload(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    async with reloading(tmp_path) as (path, reloader, lines):
        async with following(reloader):
            for count, key in enumerate(("file:" + "x" * 300, "file:circle"), 1):
                path.write_text(json.dumps(document(apikey=key)))
                await lines.until("config.refused", count)
            path.write_text(json.dumps(document(apikey="a-good-key")))
            await lines.until("config.reloaded")
        assert not lines.entries("config.watch_failed")


async def test_a_change_of_a_file_of_authorities_is_a_reload(tmp_path):
    first, second = (authority(tmp_path, name)[0].read_text() for name in ("first", "second"))
    (tmp_path / "ca.pem").write_text(first)
    async with reloading(tmp_path, ca_file="ca.pem") as (_, reloader, lines):
        assert reloader.gateway.runtime.config.providers["b"].authorities == first
        async with following(reloader):
            (tmp_path / "ca.pem").write_text("no certificate")
            await lines.until("config.refused")
            assert reloader.gateway.runtime.config.providers["b"].authorities == first
            (tmp_path / "ca.pem").write_text(second)
            await lines.until("config.reloaded")
        assert reloader.gateway.runtime.config.providers["b"].authorities == second


async def test_reloads_come_one_after_the_other(tmp_path):
    async with reloading(tmp_path) as (_, reloader, lines):
        reloader.reload_soon()
        reloader.reload_soon()
        await lines.until("config.reloaded", 2)
        assert reloader.seen == stamps(reloader.seen)


async def test_what_needs_a_restart_is_named_at_a_reload(tmp_path):
    async with reloading(tmp_path) as (path, reloader, lines):
        await reloader.reload()
        await lines.until("config.reloaded")
        assert not lines.entries("config.needs_restart")
        changed = {**document(drain=1), "storage": {"url": "sqlite:other.db"}}
        changed["server"]["listeners"] = [{"listen": "127.0.0.1:1"}]
        path.write_text(json.dumps(changed))
        await reloader.reload()
        (warning,) = await lines.until("config.needs_restart")
        assert warning["changed"] == ["server.listeners", "server.drain_seconds", "storage.url"]


def test_what_is_taken_over_by_a_reload_needs_no_restart():
    started, now = (loads(json.dumps(document(models=models))).config for models in ([HAIKU], ["m"]))
    assert fixed_changes(started, now) == []
