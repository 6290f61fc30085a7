"""Watches files for changes: the configuration's own file, and the files that it refers to.

- Folders are watched, because editors rename a temporary file over the old file, and Kubernetes swaps a symbolic link
  two levels up.
- Some file systems report no changes. So the `stat` of each file is compared with the previous one every second, and
  after each report. Only a different `stat` counts as a change.
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
"""Seconds until the files are compared again if no change is reported.

A change should take effect within two seconds."""
SETTLE: Final = 0.1
"""Seconds for which files must stay unchanged before a change is reported. So a partly written file is not loaded."""
LOOKS: Final = 8
"""Maximum number of comparisons while files keep changing. Then the change is reported anyway."""
GROUP_MS: Final = 200
"""Milliseconds during which reports of changes are combined into one."""

_FINDERS: Final[tuple[Callable[[Path], Path], ...]] = (Path.absolute, Path.resolve)

Stamp = tuple[int, ...]
"""Device, inode, size and times of a file; () for a missing file."""


def stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the stamp of each file. A file has changed if its stamp differs from an earlier one."""
    return {path: _stamp(path) for path in files}


async def watch(
    files: Callable[[], Iterable[Path]], *, since: Mapping[Path, Stamp] | None = None, every: float = EVERY
) -> AsyncGenerator[None, None]:
    """Yield after each change of a file, until the generator is closed or cancelled.

    `files` is called for each comparison, because a new configuration may refer to other files. A new file counts as
    changed. `since` has the stamps that the caller took before loading the files. The first comparison uses them.
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
    """Yield once immediately. Then yield after each reported change in a folder, and after `every` seconds without a
    report.

    The caller then compares the stamps of the files.
    """
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
            # the folder was just removed, or the system's limit of watches is reached; comparing stamps still works
            await asyncio.sleep(every)
            yield


def folders(files: Iterable[Path]) -> frozenset[Path]:
    """Return the folders to watch. For each path, these are its folder as written, and its folder after all links are
    resolved.
    """
    return frozenset(folder for path in files for find in _FINDERS for folder in _folder(path, find))


def _folder(path: Path, find: Callable[[Path], Path]) -> list[Path]:
    """Return a list with the folder of a path; [] if there is no such folder, such as for circular links."""
    try:
        folder = find(path).parent
        return [folder] if folder.is_dir() else []
    except (OSError, RuntimeError, ValueError):
        return []


async def _wait_until_settled(files: Callable[[], Iterable[Path]]) -> dict[Path, Stamp]:
    """Compare the stamps (`stat` values) of the files every `SETTLE` seconds, until they stay the same.

    At most `LOOKS` comparisons are made. Return the last stamps.
    """
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
