"""Tests of the journal's files: every line can be read again, whatever happens to the process or the disk."""

import json
import resource
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.base import JournalOffset, StoreFailed
from gateway.store.journal import Journal, require_unlocked
from tests.helpers.records import logger
from tests.helpers.waiting import eventually_without_a_loop

LINES = [b'{"a": %d}' % number for number in range(100)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


@contextmanager
def opened(folder, **options):
    log, out = logger()
    journal = Journal(folder, log, **options)
    journal.log, journal.out = log, out
    try:
        yield journal
    finally:
        journal.close()


def logged(journal):
    """Return everything that was logged before this call.

    A thread writes the log. The function logs a mark, and waits until the mark is written.
    """
    journal.log.info("test.mark")
    eventually_without_a_loop(lambda: b"test.mark" in journal.out.getvalue())
    return journal.out.getvalue()


START = JournalOffset()


def everything(journal, offset=START, limit=1000):
    """Return all lines from an offset on, read as the gateway reads them."""
    read = []
    while True:
        lines, following = journal.read(offset, limit)
        if not lines and following == offset:
            return read
        read += lines
        offset = following


@contextmanager
def room(size):
    """Limit the size of files to `size` bytes, so that further writes fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_are_read_in_the_order_in_which_they_were_written(folder):
    with opened(folder) as journal:
        for line in LINES:
            journal.append(line)
        assert everything(journal) == LINES


def test_another_process_reads_what_an_earlier_one_wrote(folder):
    for number in range(3):
        with opened(folder) as journal:
            journal.append(LINES[number])
            assert everything(journal) == LINES[: number + 1]


@given(st.lists(st.binary(max_size=300).map(lambda data: data.replace(b"\n", b"")), max_size=30), st.integers(1, 400))
def test_lines_come_back_for_any_read_and_file_size(lines, limit):
    """Check that all lines of several files are read, whatever the maximum size of a read is."""
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder), segment_bytes=256) as journal:
        for line in lines:
            journal.append(line)
        assert everything(journal, limit=limit) == lines


def test_reading_goes_on_where_it_ended(folder):
    with opened(folder) as journal:
        journal.append(LINES[0])
        _, offset = journal.read(JournalOffset(), 1000)
        assert journal.read(offset, 1000) == ([], offset)
        journal.append(LINES[1])
        assert journal.read(offset, 1000)[0] == [LINES[1]]


def test_files_that_were_taken_over_are_deleted_and_no_others(folder):
    with opened(folder, segment_bytes=100) as journal:
        for line in LINES:
            journal.append(line)
        assert len(list(folder.glob("*.jsonl"))) > 5
        lines, offset = journal.read(JournalOffset(), 450)
        while offset.segment < 4:
            more, offset = journal.read(offset, 450)
            lines += more
        journal.discard(offset)
        assert lines + everything(journal, offset) == LINES
        journal.discard(journal.end)
        assert len(list(folder.glob("*.jsonl"))) == 1


def test_half_a_line_of_a_process_that_was_killed_is_left_out_and_told(folder):
    with opened(folder) as journal:
        journal.append(LINES[0])
        path = next(folder.glob("*.jsonl"))
    path.write_bytes(path.read_bytes() + b'{"half')
    with opened(folder) as journal:
        journal.append(LINES[1])
        assert everything(journal) == LINES[:2]
    assert logged(journal).count(b"journal.torn_line") == 1


def test_lines_wait_in_memory_while_the_disk_is_full(folder):
    """Check that lines wait in memory while the disk is full, and are written when there is room."""
    with opened(folder) as journal:
        with room(95):
            for line in LINES:
                journal.append(line)
            assert journal.waiting
            assert everything(journal) == LINES[: len(everything(journal))]
        journal.append(b"last")
        assert not journal.waiting
        assert everything(journal) == [*LINES, b"last"]


def test_no_line_overtakes_one_that_waits(folder):
    with opened(folder) as journal:
        with room(30):
            for line in (b"a" * 20, b"b" * 40, b"c"):
                journal.append(line)
        journal.retry()
        assert everything(journal) == [b"a" * 20, b"b" * 40, b"c"]


def test_half_a_line_that_a_full_disk_took_is_taken_back(folder):
    with opened(folder) as journal:
        with room(25):
            journal.append(b"x" * 20)
            journal.append(b"y" * 20)
            assert next(folder.glob("*.jsonl")).read_bytes() == b"x" * 20 + b"\n"
        journal.retry()
        assert everything(journal) == [b"x" * 20, b"y" * 20]


def test_what_waits_is_bounded_by_somebody_who_asks(folder):
    with opened(folder, waiting_bytes=50) as journal:
        with room(10):
            assert not journal.full
            for line in LINES[:10]:
                journal.append(line)
            assert journal.full
        journal.retry()
        assert not journal.full


def test_what_could_not_be_written_until_the_end_is_counted(folder):
    log, out = logger()
    journal = Journal(folder, log)
    with room(1):
        journal.append(b"lost")
        journal.close()
    eventually_without_a_loop(lambda: b"journal.lines_lost" in out.getvalue())
    (entry,) = [json.loads(line) for line in out.getvalue().splitlines() if b"journal.lines_lost" in line]
    assert entry["lost"] == 1


def test_two_processes_do_not_write_into_one_folder(folder):
    with opened(folder), pytest.raises(StoreFailed, match="another gateway keeps its records there"):
        Journal(folder, logger()[0])


def test_a_folder_whose_files_are_gone_goes_on_behind_what_the_store_has(folder):
    with opened(folder, after=57) as journal:
        journal.append(LINES[0])
        assert everything(journal, JournalOffset(57, 1234)) == [LINES[0]]


def test_the_files_are_nobody_elses_to_read(folder):
    with opened(folder) as journal:
        journal.append(LINES[0])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_that_cannot_be_made_is_told_at_the_start(tmp_path):
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(StoreFailed, match="cannot be written"):
        Journal(tmp_path / "journal", logger()[0])
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]


def test_files_of_others_in_the_folder_are_left_alone(folder):
    folder.mkdir()
    foreign = [
        "5.jsonl",
        "99999999999999999999999.jsonl",
        "\u0663.jsonl",
        "-1.jsonl",
        "notes.jsonl",
        "000000000007.json",
    ]
    for name in foreign:
        (folder / name).write_bytes(b"theirs\n")
    (folder / "000000000009.jsonl").mkdir()
    with opened(folder) as journal:
        journal.append(b"ours")
        assert everything(journal) == [b"ours"]
        assert journal.end.segment == 1
        journal.discard(journal.end)
    assert {name: (folder / name).read_bytes() for name in foreign} == dict.fromkeys(foreign, b"theirs\n")
    assert (folder / "000000000009.jsonl").is_dir()


def test_a_file_that_none_can_follow_is_named(folder):
    folder.mkdir()
    (folder / "999999999999.jsonl").touch()
    with pytest.raises(StoreFailed, match=r"999999999999\.jsonl: no file can follow"):
        Journal(folder, logger()[0])


def test_a_folder_that_is_gone_for_good_is_told_once(tmp_path):
    folder = tmp_path / "state" / "journal"
    with opened(folder) as journal:
        journal.append(b"a")
        shutil.rmtree(tmp_path / "state")
        (tmp_path / "state").write_bytes(b"in the way")
        for _ in range(5):
            journal.append(b"b")
            journal.retry()
        (tmp_path / "state").unlink()
        journal.retry()
        assert everything(journal) == [b"a", *[b"b"] * 5]
    assert logged(journal).count(b"journal.removed") == 1


def test_a_file_goes_when_it_is_as_old_as_its_lines_may_be_and_taken_over(folder):
    with opened(folder) as journal:
        journal.append(b"a")
        journal.renew(60)
        assert journal.end.segment == 1
        journal.renew(0)
        journal.renew(0)
        assert journal.end == JournalOffset(2, 0)
        journal.append(b"b")
        journal.discard(journal.end)
        assert [path.read_bytes() for path in folder.glob("*.jsonl")] == [b"b\n"]


def test_another_process_is_seen_without_touching_its_journal(folder):
    """Check that a journal that another process has locked is detected, without changing the journal."""
    require_unlocked(folder)
    assert not folder.exists()
    with opened(folder):
        before = set(folder.iterdir())
        with pytest.raises(StoreFailed, match="another gateway keeps its records there"):
            require_unlocked(folder)
        assert set(folder.iterdir()) == before
    require_unlocked(folder)
