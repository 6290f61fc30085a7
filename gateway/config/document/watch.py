"""Tells when files change: the configuration's own, and those of its secrets.

Editors write a temporary file and rename it over the old one, Kubernetes swaps a symbolic link two levels up, and some
file systems report nothing at all. So folders are watched, not files; what they report is only a reason to look; and
one looks every second anyway. What counts is what `stat` says of the files that matter. Nothing here reads or loads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final

from watchfiles import awatch

EVERY: Final = 1.0
"""Seconds between two looks where nothing is reported; a change is to be live within two."""
SETTLE: Final = 0.1
"""Seconds for which the files must stay the same, so that a half-written one is not loaded."""
LOOKS: Final = 8
"""Looks after which a file that does not settle is told of nevertheless."""
GROUP_MS: Final = 200
"""Milliseconds for which reports are gathered."""

_FINDERS: Final[tuple[Callable[[Path], Path], ...]] = (Path.absolute, Path.resolve)

Stamp = tuple[int, ...]
"""Device, inode, size and times; () for a file that is not there."""


def stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    """What tells one state of the files from another."""
    return {path: _stamp(path) for path in files}


async def watch(
    files: Callable[[], Iterable[Path]], *, since: Mapping[Path, Stamp] | None = None, every: float = EVERY
) -> AsyncGenerator[None, None]:
    """Yields after each change of a file; ends only by being closed or cancelled.

    `files` is asked again each time, because a new configuration may name other secrets; a file that is new in it
    counts as changed, for nobody knows what happened to it before. `since` are the stamps from which changes
    count, for a caller that loaded some time ago.
    """
    known = stamps(files()) if since is None else dict(since)
    while True:
        near = folders(files())
        async with aclosing(_hints(near, every)) as hints:
            async for _ in hints:
                if stamps(files()) != known and (now := await _settled(files)) != known:
                    known = now
                    yield
                if folders(files()) != near:
                    break


async def _hints(near: Iterable[Path], every: float) -> AsyncGenerator[None, None]:
    """Yields at once, when something happens in a folder, and after `every` seconds without that."""
    yield
    while True:
        reports = awatch(
            *near,
            watch_filter=None,
            recursive=False,
            debounce=GROUP_MS,
            rust_timeout=int(every * 1000),
            yield_on_timeout=True,
        )
        try:
            async with aclosing(reports):
                async for _ in reports:
                    yield
        except (OSError, RuntimeError):
            # the folder has just gone, or the system's limit of watches is reached: looking still works
            await asyncio.sleep(every)
            yield


def folders(files: Iterable[Path]) -> frozenset[Path]:
    """Where changes of the files show: beside the name as given, and beside what links lead to."""
    return frozenset(folder for path in files for find in _FINDERS for folder in _folder(path, find))


def _folder(path: Path, find: Callable[[Path], Path]) -> list[Path]:
    """The folder if it is there. A name too long or links in a circle hide their own folder and nobody else's."""
    try:
        folder = find(path).parent
        return [folder] if folder.is_dir() else []
    except (OSError, RuntimeError, ValueError):
        return []


async def _settled(files: Callable[[], Iterable[Path]]) -> dict[Path, Stamp]:
    """The stamps, once two looks agree."""
    before = stamps(files())
    for _ in range(LOOKS):
        await asyncio.sleep(SETTLE)
        now = stamps(files())
        if now == before:
            break
        before = now
    return before


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
