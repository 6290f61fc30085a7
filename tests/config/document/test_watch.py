"""Tests of watching files: every way of replacing a file is noticed within two seconds, and nothing else is
reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path

import pytest

from gateway.config.document.watch import EVERY, stamps, watch
from tests.helpers.waiting import eventually

SECONDS = 2.0


class Files:
    """The watched files, with a count of how often they have been compared."""

    def __init__(self, *files: Path) -> None:
        self.files = list(files)
        self.looks = 0

    def __call__(self) -> Iterable[Path]:
        self.looks += 1
        return self.files

    async def looked(self, times: int = 1) -> None:
        """Wait until the files have been compared `times` more times."""
        before = self.looks
        await eventually(lambda: self.looks >= before + times)


async def change_is_seen(
    path: Path, change: Callable[[], object], every: float = EVERY, beside: Iterable[Path] = ()
) -> bool:
    """Call `change`, and return whether `watch` then reports a change of the file `path`.

    `watch` compares the files every `every` seconds. The files in `beside` are watched too.
    """
    files = Files(*beside, path)
    async with aclosing(watch(files, every=every)) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await files.looked(2)
        change()
        done, _ = await asyncio.wait([waiting], timeout=SECONDS)
        waiting.cancel()
        await asyncio.wait([waiting])
    return bool(done)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.hujson"
    path.write_text("{}")
    return path


async def test_a_file_written_in_place_is_noticed(config: Path) -> None:
    assert await change_is_seen(config, lambda: config.write_text("{ }"))


async def test_a_file_replaced_by_a_rename_is_noticed(config: Path) -> None:
    new = config.with_suffix(".tmp")
    new.write_text("{}")
    assert await change_is_seen(config, lambda: new.replace(config))


async def test_a_file_that_goes_is_noticed(config: Path) -> None:
    assert await change_is_seen(config, config.unlink)


async def test_a_file_that_comes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "later" / "key"

    def come() -> None:
        path.parent.mkdir()
        path.write_text("x")

    assert await change_is_seen(path, come, every=0.3)


async def test_a_swap_of_the_links_that_kubernetes_mounts_is_noticed(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "config.hujson").write_text(version)
    (tmp_path / "..data").symlink_to("v1")
    path = tmp_path / "config.hujson"
    path.symlink_to("..data/config.hujson")
    (tmp_path / "..data_tmp").symlink_to("v2")
    assert await change_is_seen(path, lambda: (tmp_path / "..data_tmp").rename(tmp_path / "..data"))


async def test_a_change_behind_two_links_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "far" / "v1").mkdir(parents=True)
    (tmp_path / "far" / "v1" / "key").write_text("1")
    (tmp_path / "far" / "v2").mkdir()
    (tmp_path / "far" / "v2" / "key").write_text("2")
    (tmp_path / "far" / "now").symlink_to("v1")
    (tmp_path / "near").mkdir()
    path = tmp_path / "near" / "key"
    path.symlink_to("../far/now/key")

    def swap() -> None:
        (tmp_path / "far" / "next").symlink_to("v2")
        (tmp_path / "far" / "next").rename(tmp_path / "far" / "now")

    assert await change_is_seen(path, swap)


async def test_other_files_in_the_folder_are_no_change(config: Path) -> None:
    files = Files(config)
    async with aclosing(watch(files, every=0.1)) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await files.looked(2)
        for name in (".config.hujson.swp", "4913", "config.hujson~"):
            config.with_name(name).write_text("x")
            await files.looked(2)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_what_changed_since_the_given_stamps_is_told_at_once(config: Path) -> None:
    before = {config: (1, 2, 3)}
    assert before != stamps([config])
    async with aclosing(watch(lambda: [config], since=before)) as changes:
        await asyncio.wait_for(anext(changes), SECONDS)


async def test_a_file_that_a_change_brings_in_is_watched_from_then_on(config: Path) -> None:
    key = config.with_name("key")
    files = Files(config)
    async with aclosing(watch(files, every=0.2)) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await files.looked(2)
        files.files.append(key)
        await asyncio.wait_for(waiting, SECONDS)
        waiting = asyncio.ensure_future(anext(changes))
        await files.looked(2)
        key.write_text("x")
        await asyncio.wait_for(waiting, SECONDS)


async def test_half_a_file_is_not_told(config: Path) -> None:
    parts: list[str] = []
    written: list[str] = []

    class Written(Files):
        """Watched files. One of them is still being written: before each comparison, a further part of it is written."""

        def __call__(self) -> Iterable[Path]:
            if parts:
                written.append(parts.pop(0))
                config.write_text("".join(written))
            return super().__call__()

    files = Written(config)
    async with aclosing(watch(files, every=0.2)) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await files.looked(2)
        parts += ["{", '"a"', ": 1", "}"]
        await asyncio.wait_for(waiting, SECONDS * 2)
        assert "".join(written) == '{"a": 1}'


async def test_a_path_that_cannot_be_looked_at_hides_no_change_of_another(config: Path) -> None:
    circle = config.with_name("circle")
    circle.symlink_to("circle")
    odd = [config.with_name("x" * 300), circle, circle / "key", config.with_name("a\0b")]
    assert await change_is_seen(config, lambda: config.write_text("{ }"), beside=odd)
