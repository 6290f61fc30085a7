"""Watches files for changes: the configuration's own file, and the files that it refers to.

- The `stat` of each file is compared with the previous one several times a second. Only a different `stat` counts as a
  change.
- Comparing costs less than a watch by the operating system. It also works where a watch by the operating system does
  not: for renamed files, on file systems that report no changes, and for symbolic links (Kubernetes replaces a link two
  levels above the file).
- Nothing here reads or loads a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

EVERY: Final = 0.25
"""Seconds between two comparisons. So a change takes effect within two seconds. A comparison takes some microseconds
for each file.
"""
SETTLE: Final = 0.1
"""Seconds for which files must stay unchanged before a change is reported. So a partly written file is not loaded."""
LOOKS: Final = 8
"""Maximum number of comparisons after a change, to wait until the files stay unchanged. After the last comparison, the
change is reported even if the files are still changing.
"""

Stamp = tuple[int, ...]
"""Device, inode, size and times of a file. The value is () for a missing file."""


def stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the `stat` values of each file. If they differ from earlier ones, the file has changed."""
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
        if stamps(files()) != known and (now := await _wait_until_settled(files)) != known:
            known = now
            yield
        await asyncio.sleep(every)


async def _wait_until_settled(files: Callable[[], Iterable[Path]]) -> dict[Path, Stamp]:
    """Wait until the `stat` values of the files stay the same for `SETTLE` seconds, or until `LOOKS` comparisons are
    made. Return the last `stat` values.
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
