"""Tests that a file is replaced in one step, or not at all."""

import errno
import os
from pathlib import Path

import pytest

from gateway.config.document import atomic_file


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "config.hujson"
    path.write_bytes(b"old")
    return path


def test_mode_and_owner_stay_what_they_are(path):
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before = path.stat()
    atomic_file.replace(path, b"new", b"old")
    after = path.stat()
    assert path.read_bytes() == b"new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def test_a_link_stays_a_link(path, tmp_path):
    link = tmp_path / "folder" / "link"
    link.parent.mkdir()
    link.symlink_to("../config.hujson")
    atomic_file.replace(link, b"new", b"old")
    assert (link.is_symlink(), path.read_bytes()) == (True, b"new")
    assert list(link.parent.iterdir()) == [link]


def test_a_file_that_holds_something_else_by_now_is_left_alone(path, tmp_path):
    with pytest.raises(atomic_file.Changed):
        atomic_file.replace(path, b"new", b"older")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_whoever_reads_meanwhile_sees_the_old_file_or_the_new_one(path, monkeypatch):
    seen = []
    write = os.fsync

    def looking(descriptor):
        seen.append(path.read_bytes())
        write(descriptor)

    monkeypatch.setattr(atomic_file.os, "fsync", looking)
    atomic_file.replace(path, b"new", b"old")
    assert seen == [b"old", b"new"]


@pytest.mark.parametrize("call", ["open", "fsync", "chmod", "replace"])
def test_a_failure_at_any_step_leaves_the_old_file_and_nothing_beside_it(path, tmp_path, monkeypatch, call):
    def failing(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_file.os, call, failing)
    with pytest.raises(atomic_file.NoSpace, match="the old file is as it was"):
        atomic_file.replace(path, b"new", b"old")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_whose_owner_cannot_be_kept_is_not_replaced(path, monkeypatch):
    """Check that a file is not replaced if the new file cannot get the same owner.

    The test simulates another owner, because only root could set one.
    """
    fstat = os.fstat

    def of_somebody_else(descriptor):
        mode, inode, device, links, user, *rest = fstat(descriptor)
        return os.stat_result((mode, inode, device, links, user + 1, *rest))

    def failing(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(atomic_file.os, "fstat", of_somebody_else)
    monkeypatch.setattr(atomic_file.os, "fchown", failing)
    with pytest.raises(atomic_file.NotWritable):
        atomic_file.replace(path, b"new", b"old")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"


def test_nobody_else_may_read_the_new_file_until_it_takes_its_place(path, tmp_path, monkeypatch):
    path.chmod(0o644)
    modes = []
    write = os.fsync

    def looking(descriptor):
        modes.extend(entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir() if entry != path)
        write(descriptor)

    monkeypatch.setattr(atomic_file.os, "fsync", looking)
    atomic_file.replace(path, b"new", b"old")
    assert modes == [0o600]
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_killed_saves_left_is_removed_and_nothing_else(path, tmp_path):
    link = tmp_path / "folder" / "link"
    link.parent.mkdir()
    link.symlink_to("../config.hujson")
    others = ["config.hujson", ".config.hujson.swp", ".config.hujson.0123456789ABCDEF", ".other.hujson." + "0" * 16]
    for name in [*others[1:], ".config.hujson." + "a1" * 8, ".config.hujson." + "0" * 16]:
        (tmp_path / name).write_bytes(b"key")
    (tmp_path / (".config.hujson." + "b" * 16)).mkdir()
    atomic_file.sweep(link)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(
        [*others, ".config.hujson." + "b" * 16, "folder"]
    )


def test_a_save_removes_what_a_killed_one_left(path, tmp_path):
    (tmp_path / (".config.hujson." + "a" * 16)).write_bytes(b"key")
    atomic_file.replace(path, b"new", b"old")
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_swept_where_there_is_nothing(tmp_path):
    atomic_file.sweep(tmp_path / "nowhere" / "config.hujson")


def test_a_file_beyond_the_limit_is_not_read(path):
    path.write_bytes(b" " * (atomic_file.MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(OSError, match=f"is larger than {atomic_file.MAX_DOCUMENT_BYTES} bytes"):
        atomic_file.read(path)


def test_a_byte_order_mark_is_not_a_part_of_the_text(path):
    path.write_bytes(atomic_file.BOM + b"old")
    assert atomic_file.read(path) == b"old"
    atomic_file.replace(path, b"new", b"old")
    assert path.read_bytes() == b"new"


def test_what_is_no_regular_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        atomic_file.read(tmp_path / "pipe")


def test_links_in_a_circle_are_an_error_like_others(tmp_path):
    path = Path(tmp_path / "circle")
    path.symlink_to("circle")
    with pytest.raises(OSError):
        atomic_file.check(path)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_another_file_under_the_temporary_name_is_not_touched(path, tmp_path, monkeypatch, kind):
    """Check that a file that somebody else created under the name of the temporary file is not changed."""
    monkeypatch.setattr(atomic_file.secrets, "token_hex", lambda _: "known")
    other, beside = tmp_path / "other", tmp_path / ".config.hujson.known"
    other.write_bytes(b"theirs")
    if kind == "link":
        beside.symlink_to(other)
    else:
        beside.write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        atomic_file.replace(path, b"new", b"old")
    assert (path.read_bytes(), beside.read_bytes(), other.read_bytes()) == (b"old", b"theirs", b"theirs")
