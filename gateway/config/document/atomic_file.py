"""Replaces a configuration's file atomically: a reader sees either the old file or the new one.

- The new text is written to a temporary file in the same folder, which is then renamed over the old file.
- A symbolic link stays a link. The file's mode and owner stay unchanged.
- The temporary file may contain secrets. Only its owner may read it before the rename. If a killed process left a
  temporary file behind, the next start or save removes it.
- Nothing here looks at the content.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.config.document.hujson import MAX_DOCUMENT_BYTES

BOM: Final = b"\xef\xbb\xbf"

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED: Final[Mapping[int, str]] = {
    errno.EROFS: "lies on a read-only file system",
    errno.EACCES: "may not be replaced by the gateway's user",
    errno.EPERM: "may not be replaced by the gateway's user",
    errno.EBUSY: "is mounted on its own, so that no other file can take its place",
    errno.EXDEV: "is mounted on its own, so that no other file can take its place",
}
_EDIT_THERE: Final = "edit it where it is mounted or copied from"


class CannotReplace(Exception):
    """The error for a file that was not replaced. Its message says why."""


class NotWritable(CannotReplace):
    """The error for a file that the gateway may not write."""


class NoSpace(CannotReplace):
    """The error for a disk that has no room for the new file."""


class Changed(CannotReplace):
    """The error for a file that has changed since the caller read it."""


def read(path: Path) -> bytes:
    """Return the file's content without a byte order mark.

    Raises `OSError` if the file cannot be read, is too large or is not a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    with path.open("rb") as stream:
        data = stream.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise OSError(errno.EINVAL, f"is larger than {MAX_DOCUMENT_BYTES} bytes", str(path))
    return data.removeprefix(BOM)


def check(path: Path) -> None:
    """Raise `NotWritable` if the file or its folder is read-only. Root is refused too, although root could write."""
    target = _target(path)
    if not target.stat().st_mode & 0o222:
        raise NotWritable(f"{path} is read-only; {_EDIT_THERE}")
    if not target.parent.stat().st_mode & 0o222 or not os.access(target.parent, os.W_OK):
        raise NotWritable(f"{path} lies in a folder that is read-only; {_EDIT_THERE}")


def replace(path: Path, data: bytes, expected: bytes) -> None:
    """Replace the content of a file by `data`, if the content is still `expected`.

    Raises `CannotReplace` if the file has another content, may not be written, or does not fit on the disk. Raises
    `OSError` for any other error of the disk. If only the last step (the flush of the folder) fails, the file has the
    new content. After any other exception, it has the old content. No temporary file is left.
    """
    check(path)
    target = _target(path)
    sweep(path)
    made = target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}")
    try:
        # with O_EXCL, opening an existing file or link fails, so that no other file can be overwritten
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _refusal(path, error) from None
    try:
        _write(descriptor, data, target.stat())
        if read(target) != expected:
            raise Changed(f"{path} was changed in the meantime")
        os.chmod(made, stat.S_IMODE(target.stat().st_mode))  # noqa: PTH101 (tests make this call fail)
        os.replace(made, target)  # noqa: PTH105 (tests make this call fail)
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        with suppress(FileNotFoundError):
            made.unlink()
    _sync(target.parent)


def sweep(path: Path) -> None:
    """Remove temporary files that were left behind when a process was killed during a save. They may hold secrets.

    Errors are ignored. No other save can be using such a file, because only one process saves, and it makes one save at
    a time.
    """
    with suppress(OSError):
        target = _target(path)
        left = re.compile(re.escape(_prefix(target)) + "[0-9a-f]{16}")
        for entry in [entry for entry in target.parent.iterdir() if left.fullmatch(entry.name)]:
            if entry.is_file() and not entry.is_symlink():
                entry.unlink()


def _prefix(target: Path) -> str:
    """Return the beginning of the names of temporary files for `target`. Sixteen hexadecimal digits follow it."""
    return f".{target.name[:80]}."


def _target(path: Path) -> Path:
    """Return the file itself, or the file that a symbolic link leads to."""
    try:
        return path.resolve(strict=True)
    except RuntimeError as error:
        raise OSError(errno.ELOOP, str(error), str(path)) from None


def _write(descriptor: int, data: bytes, like: os.stat_result) -> None:
    with os.fdopen(descriptor, "wb") as file:
        own = os.fstat(descriptor)
        if (own.st_uid, own.st_gid) != (like.st_uid, like.st_gid):
            os.fchown(descriptor, like.st_uid, like.st_gid)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    """Flush the folder to the disk, so that a power failure cannot undo the rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(path: Path, error: OSError) -> CannotReplace | OSError:
    code = error.errno or 0
    if code in _NO_SPACE:
        return NoSpace(f"{path}: {error.strerror}; the old file is as it was")
    if code in _NOT_ALLOWED:
        return NotWritable(f"{path} {_NOT_ALLOWED[code]}; {_EDIT_THERE}")
    return error
