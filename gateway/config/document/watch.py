"""Watches files for changes: the configuration's own file, and the files of its secrets.

- Editors rename a temporary file over the old one, Kubernetes swaps a symbolic link two levels up, and some file
  systems report nothing. So folders are watched, a report is only a reason to look, and every second is one too.
- Only a different `stat` of a file is a change.
- Nothing here reads or loads a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final

from watchfiles import awatch

EVERY: Final = 1.0
"""Seconds between two looks without a report; a change must be live within two seconds."""
SETTLE: Final = 0.1
"""Seconds without a change before a file is loaded, so that a half-written file is not."""
LOOKS: Final = 8
"""Most looks at files that keep changing; then the change is reported all the same."""
GROUP_MS: Final = 200
"""Milliseconds for which reports are gathered into one."""

_FINDERS: Final[tuple[Callable[[Path], Path], ...]] = (Path.absolute, Path.resolve)

Stamp = tuple[int, ...]
"""Device, inode, size and times of a file; () for a missing file."""


def stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the stamp of each file, by which two states of it are compared."""
    return {path: _stamp(path) for path in files}


async def watch(
    files: Callable[[], Iterable[Path]], *, since: Mapping[Path, Stamp] | None = None, every: float = EVERY
) -> AsyncGenerator[None, None]:
    """Yield after each change of a file; end only by being closed or cancelled.

    `files` is called again each time, because a new configuration may name other secrets. A file that is new in it
    counts as changed, because its earlier changes are unknown. `since` are stamps to compare with, for a caller that
    loaded the files some time ago.
    """
    known = stamps(files()) if since is None else dict(since)
    while True:
        near = folders(files())
        async with aclosing(_hints(near, every)) as hints:
            async for _ in hints:
                if stamps(files()) != known and (now := await _wait_until_settled(files)) != known:
                    known = now
                    yield
                if folders(files()) != near:
                    break


async def _hints(near: Iterable[Path], every: float) -> AsyncGenerator[None, None]:
    """Yield at once, on every report of a folder, and after `every` seconds without a report."""
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
    """Return the folders in which changes show: of each file as named, and of the file that its links lead to."""
    return frozenset(folder for path in files for find in _FINDERS for folder in _folder(path, find))


def _folder(path: Path, find: Callable[[Path], Path]) -> list[Path]:
    """Return the folder if it exists, else []. A name too long, or links in a circle, hide only their own folder."""
    try:
        folder = find(path).parent
        return [folder] if folder.is_dir() else []
    except (OSError, RuntimeError, ValueError):
        return []


async def _wait_until_settled(files: Callable[[], Iterable[Path]]) -> dict[Path, Stamp]:
    """Return the stamps once two looks in a row agree."""
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
