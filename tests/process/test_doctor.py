"""Tests of `irisgate doctor`: each fault of a state folder is reported with a remedy, and a repair loses nothing
readable.
"""

import asyncio
import json
import os
import random
import shutil
import socket
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from gateway.config.model import Config
from gateway.process.command_line import main
from gateway.process.stores import database_path
from gateway.store.base import JournalOffset, SessionQuery, UsageQuery
from gateway.store.entries import Balance, Entry, encode
from gateway.store.file import connect, prepare
from gateway.store.follower import JournalFollower
from gateway.store.journal import Journal, locked
from gateway.store.sqlite import SqliteStore
from gateway.store.writing import write
from tests.helpers.gateway import gate
from tests.helpers.records import logger, record

CALLS = 400
JOURNAL_CALLS = 20
SEGMENT = "000000000001.jsonl"
NOW = time.time()


def call(number):
    """Return the call with this number. Consecutive calls are a minute apart, and belong to seven sessions in turn."""
    return record(id=f"c{number}", session_id=f"s{number % 7}", at=NOW - 86_400 + number * 60, agent=f"a{number % 3}")


@pytest.fixture(scope="module")
def whole_state(tmp_path_factory):
    """A state folder with calls in the database, and later ones in the journal only. Tests change only copies of it."""
    folder = tmp_path_factory.mktemp("doctor") / "state"
    (folder / "journal").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    prepare(folder / "irisgate.db")
    with closing(connect(folder / "irisgate.db")) as connection:
        entries = [Entry(call=call(number), balances=(Balance("daily:ada", 5, 1, NOW),)) for number in range(CALLS)]
        write(connection, entries, JournalOffset(1, 0))
    lines = [encode(Entry(call=call(CALLS + number))) for number in range(JOURNAL_CALLS)]
    (folder / "journal" / SEGMENT).write_bytes(b"".join(line + b"\n" for line in lines))
    (folder / "journal" / SEGMENT).chmod(0o600)
    return folder


@pytest.fixture
def state(whole_state, tmp_path):
    return shutil.copytree(whole_state, tmp_path / "state")


def doctor(capfd, state, *options):
    """Run `irisgate doctor`. Return its exit status, and the results of the checks that did not pass."""
    status = main(["doctor", "--state", str(state), "--json", *map(str, options)])
    answer = json.loads(capfd.readouterr().out)
    assert answer["healthy"] == (status == 0)
    return status, [each for each in answer["checks"] if each["state"] != "ok"]


def kept(state):
    """Return the contents of the damaged files that a repair has kept, by the name of the file."""
    return {path.name: path.read_bytes() for folder in state.glob("damaged-*") for path in folder.iterdir()}


async def started(state):
    """Open the store and apply the journal, as a starting gateway does.

    Return the ids of all calls, and the total number of calls.
    """
    log, _ = logger()
    store = SqliteStore(state / "irisgate.db")
    journal = Journal(state / "journal", log, after=store.start_offset.segment)
    follower = JournalFollower(journal, store, log)
    try:
        await follower.start()
        ids = {row.id for row in (await store.calls(None, None, 10_000)).rows}
        sessions = (await store.sessions(SessionQuery(None, 1000))).rows
        (usage,) = await store.usage(UsageQuery())
        assert usage.calls >= len(ids)
        assert {session.id for session in sessions} == {f"s{number}" for number in range(7)}
        return ids, usage.calls
    finally:
        await follower.close()
        await store.close()


IDS = {f"c{number}" for number in range(CALLS + JOURNAL_CALLS)}


def page_size(state):
    with closing(sqlite3.connect(state / "irisgate.db")) as connection:
        return connection.execute("PRAGMA page_size").fetchone()[0]


async def test_a_good_state_is_healthy_and_left_as_it_is(state, capfd):
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert doctor(capfd, state) == (0, [])
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before
    assert doctor(capfd, state, "--repair") == (0, [])
    after = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert after == {**before, state / "journal" / "lock": after[state / "journal" / "lock"]}
    assert await started(state) == (IDS, len(IDS))


def header(data, _page):
    data[:100] = b"x" * 100


def half(data, _page):
    del data[len(data) // 2 :]


def nothing_left(data, _page):
    data[:] = b"junk" * 3000


def zeros(data, page):
    data[page * 4 : page * 9] = bytes(page * 5)


def shifted(data, page):
    data[page * 6 : page * 6] = b"\x00"


@pytest.mark.parametrize("damage", [header, half, nothing_left, zeros, shifted])
async def test_a_damaged_database_is_made_anew_from_what_can_be_read(state, capfd, damage):
    path = state / "irisgate.db"
    data = bytearray(path.read_bytes())
    damage(data, page_size(state))
    path.write_bytes(data)
    status, results = doctor(capfd, state)
    assert (status, [each["state"] for each in results]) == (1, ["error"])
    assert str(path) in results[0]["message"]
    assert results[0]["remedy"] == "stop the gateway and run irisgate doctor --repair"
    assert path.read_bytes() == data
    status, results = doctor(capfd, state, "--repair")
    assert (status, [each["state"] for each in results]) == (0, ["repaired"])
    assert kept(state)["irisgate.db"] == data
    assert doctor(capfd, state) == (0, [])
    ids, _ = await started(state)
    assert ids >= {f"c{CALLS + number}" for number in range(JOURNAL_CALLS)}


async def test_one_bad_page_costs_the_rows_of_that_page_alone(state, capfd):
    """Check that the repair of a database with one damaged page succeeds, and keeps the rows of all other pages.

    Every fifth page is damaged in turn.
    """
    path = state / "irisgate.db"
    good, size = path.read_bytes(), page_size(state)
    lost, chance = [], random.Random(0)
    for number in range(1, len(good) // size, 5):
        path.write_bytes(good[: number * size] + chance.randbytes(size) + good[(number + 1) * size :])
        for leftover in state.glob("damaged-*"):
            leftover.rename(state.parent / f"{leftover.name}-{number}")
        status, _ = doctor(capfd, state, "--repair")
        assert status == 0
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            lost.append(CALLS - connection.execute("SELECT count(*) FROM calls").fetchone()[0])
            sums = connection.execute("SELECT sum(calls) FROM figures_quarter").fetchone()[0]
            assert (sums or 0) >= CALLS - lost[-1]
    assert sorted(lost)[len(lost) // 2] <= 30
    assert sum(count > 100 for count in lost) <= 2  # the pages of the schema


@pytest.mark.parametrize("seed", range(20))
def test_a_repair_of_any_damage_ends_well(state, capfd, seed):
    chance = random.Random(seed)
    for path in (state / "irisgate.db", state / "journal" / SEGMENT):
        data = bytearray(path.read_bytes())
        for _ in range(chance.randint(1, 30)):
            start = chance.randrange(len(data))
            length = chance.choice([1, 10, 500, 5000])
            match chance.randrange(4):
                case 0:
                    data[start : start + length] = chance.randbytes(length)
                case 1:
                    data[start : start + length] = bytes(len(data[start : start + length]))
                case 2:
                    del data[start : start + length]
                case _:
                    data[start:start] = chance.randbytes(length)
        path.write_bytes(data)
    status, results = doctor(capfd, state, "--repair")
    assert {each["state"] for each in results if "another release" not in each["message"]} <= {"repaired"}
    again, left = doctor(capfd, state)
    assert [each for each in left if each["state"] == "error"] == []
    assert again == status


LINE = encode(Entry(call=call(1000)))


@pytest.mark.parametrize(
    ("line", "state_of_it"),
    [
        (b'{"call": {"id": "x", "at"', "error"),
        (b"\x00" * 500, "error"),
        (b"nonsense", "error"),
        (LINE[:-30] + LINE[-20:], "error"),
        (LINE.replace(b"c1000", b"\xff\xfe"), "error"),
        (b"]" * 5, "error"),
        (b'{"call": {"id": 7}}', "warning"),
        (b'{"lease": {"bucket": "daily", "of": "another release"}}', "warning"),
    ],
)
async def test_a_line_that_cannot_be_read_is_reported_and_kept(state, capfd, line, state_of_it):
    path = state / "journal" / SEGMENT
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], line + b"\n", *lines[5:]]))
    data, start = path.read_bytes(), sum(map(len, lines[:5]))
    status, (result,) = doctor(capfd, state)
    assert (status, result["state"]) == (1, state_of_it)
    assert f"{path}: the line at byte {start}" in result["message"]
    status, (result,) = doctor(capfd, state, "--repair")
    if state_of_it == "warning":
        assert (status, path.read_bytes()) == (1, data)
    else:
        assert (status, result["state"], kept(state)[SEGMENT]) == (0, "repaired", data)
        assert len(path.read_bytes()) == len(data)
    assert await started(state) == (IDS, len(IDS))
    unreadable = state / "journal" / "unreadable"
    assert (unreadable.read_bytes() if unreadable.exists() else b"") == (
        line + b"\n" if state_of_it == "warning" else b""
    )


async def test_half_a_line_at_the_end_is_reported_and_cut_off(state, capfd):
    path = state / "journal" / SEGMENT
    whole = path.read_bytes()
    path.write_bytes(whole + LINE[:100])
    status, (result,) = doctor(capfd, state)
    assert (status, result["state"], "has no end" in result["message"]) == (1, "warning", True)
    status, (result,) = doctor(capfd, state, "--repair")
    assert (status, result["state"]) == (0, "repaired")
    assert (path.read_bytes(), kept(state)[SEGMENT]) == (whole, whole + LINE[:100])
    assert await started(state) == (IDS, len(IDS))


async def test_lines_that_can_be_read_by_now_are_applied(state, capfd):
    """Check that a repair applies lines of the journal that an older release could not read but this release can."""
    unreadable = state / "journal" / "unreadable"
    unreadable.touch(0o600)
    unreadable.write_bytes(LINE + b"\nnonsense\n")
    status, results = doctor(capfd, state)
    assert (status, [each["state"] for each in results]) == (1, ["warning"])
    status, results = doctor(capfd, state, "--repair")
    assert (status, [each["state"] for each in results]) == (1, ["repaired", "warning"])
    assert unreadable.read_bytes() == b"nonsense\n"
    assert (await started(state))[0] == IDS | {"c1000"}


async def test_sums_that_lack_calls_are_counted_again(state, capfd):
    with closing(sqlite3.connect(state / "irisgate.db")) as connection, connection:
        connection.execute("DELETE FROM figures_quarter WHERE time % 1800000 = 0")
        connection.execute("UPDATE figures_quarter SET calls = calls - 1, input = 0")
        connection.execute("DELETE FROM figures_day")
        connection.execute("DELETE FROM agents_day")
    status, (result,) = doctor(capfd, state)
    assert (status, result["state"], "sums lack calls" in result["message"]) == (1, "error", True)
    status, (result,) = doctor(capfd, state, "--repair")
    assert (status, result["state"]) == (0, "repaired")
    assert await started(state) == (IDS, len(IDS))
    with closing(sqlite3.connect(state / "irisgate.db")) as connection:
        for table in ("figures_quarter", "figures_hour", "figures_day", "agents_day"):
            sums = connection.execute(f"SELECT sum(calls), sum(input), sum(duration_ms) FROM {table}").fetchone()
            expected = "SELECT count(*), sum(input), sum(CAST(round(duration_ms) AS INTEGER)) FROM calls"
            assert sums == connection.execute(expected).fetchone()


def test_sums_of_expired_calls_stay(state, capfd):
    with closing(sqlite3.connect(state / "irisgate.db")) as connection, connection:
        connection.execute("DELETE FROM calls WHERE n <= 200")
        before = connection.execute("SELECT * FROM figures_quarter").fetchall()
    assert doctor(capfd, state, "--repair") == (0, [])
    with closing(sqlite3.connect(state / "irisgate.db")) as connection:
        assert connection.execute("SELECT * FROM figures_quarter").fetchall() == before


@pytest.mark.parametrize(
    ("statement", "words", "remedy"),
    [
        ("PRAGMA user_version = 999", "its schema is version 999", "run the release that wrote it"),
        ("DROP TABLE balances", "it lacks the table balances", "doctor --repair"),
        ("DROP INDEX calls_by_time", "it lacks the index calls_by_time", "doctor --repair"),
        ("ALTER TABLE calls DROP COLUMN geo", "it lacks the column calls.geo", "doctor --repair"),
        ("UPDATE calls SET at = 'x' WHERE n = 9", "the time of a call is no number", "doctor --repair"),
        ("UPDATE calls SET at = x'00' WHERE n = 9", "the time of a call is no number", "doctor --repair"),
        ("UPDATE balances SET at = 9e999", "the balances of daily:ada cannot be used", "refill"),
        ("INSERT INTO open_calls VALUES ('x', 'nonsense')", "1 calls that were sent", "run the release"),
        ("INSERT INTO open_calls VALUES ('x', x'5b22ff225d')", "1 calls that were sent", "run the release"),
        ("UPDATE calls SET at = at + 864000000 WHERE n = 400", "seconds behind the last record", "set the clock"),
    ],
)
def test_faults_of_the_content_are_reported(state, capfd, statement, words, remedy):
    with closing(sqlite3.connect(state / "irisgate.db")) as connection, connection:
        connection.execute(statement)
    status, results = doctor(capfd, state)
    assert status == 1
    assert any(words in each["message"] and remedy in each["remedy"] for each in results), results
    if remedy == "doctor --repair":
        assert doctor(capfd, state, "--repair")[0] == 0
        assert doctor(capfd, state) == (0, [])


def test_a_database_of_a_later_release_is_not_touched(state, capfd):
    with closing(sqlite3.connect(state / "irisgate.db")) as connection, connection:
        connection.execute("PRAGMA user_version = 999")
    before = (state / "irisgate.db").read_bytes()
    assert doctor(capfd, state, "--repair")[0] == 1
    assert (state / "irisgate.db").read_bytes() == before
    assert kept(state) == {}


def test_a_database_of_another_program_is_not_touched(state, capfd):
    (state / "irisgate.db").unlink()
    with closing(sqlite3.connect(state / "irisgate.db")) as connection, connection:
        connection.execute("CREATE TABLE notes (text)")
    (state / "irisgate.db").chmod(0o600)
    before = (state / "irisgate.db").read_bytes()
    status, (result,) = doctor(capfd, state, "--repair")
    assert (status, "another program" in result["message"]) == (1, True)
    assert (state / "irisgate.db").read_bytes() == before


def test_a_locked_database_is_reported(state, capfd):
    with closing(sqlite3.connect(state / "irisgate.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        status, (result,) = doctor(capfd, state)
    assert (status, "locked" in result["message"]) == (1, True)
    assert result["remedy"] == "end the other program that has locked it"


def test_damaged_bodies_are_moved_aside(state, capfd):
    bodies = state / "irisgate.db-bodies"
    bodies.touch(0o600)
    bodies.write_bytes(b"junk" * 1000)
    assert doctor(capfd, state)[0] == 1
    status, (result,) = doctor(capfd, state, "--repair")
    assert (status, result["check"], bodies.exists()) == (0, "bodies", False)
    assert kept(state)[bodies.name] == b"junk" * 1000


def test_files_that_others_may_read_are_closed(state, capfd):
    (state / "irisgate.db").chmod(0o644)
    status, (result,) = doctor(capfd, state)
    assert (status, result["state"], result["check"]) == (1, "warning", "state folder")
    assert doctor(capfd, state, "--repair")[0] == 0
    assert (state / "irisgate.db").stat().st_mode & 0o777 == 0o600
    assert doctor(capfd, state) == (0, [])


def test_a_session_key_that_is_none_is_reported(state, capfd):
    (state / "session.key").touch(0o600)
    status, (result,) = doctor(capfd, state)
    assert (status, result["check"], "delete it" in result["remedy"]) == (1, "session.key", True)


def test_no_repair_is_made_while_a_gateway_runs(state, capfd):
    (state / "irisgate.db").write_bytes(b"junk" * 1000)
    with locked(state / "journal"):
        assert main(["doctor", "--state", str(state), "--repair"]) == 2
        error = capfd.readouterr().err
        assert f"a gateway runs on {state} (process {os.getpid()}" in error
        assert error.count("\n") == 1
        assert kept(state) == {}
        assert main(["doctor", "--state", str(state)]) == 1
        assert f"ok       gateway: process {os.getpid()}" in capfd.readouterr().out


def test_a_folder_that_is_not_there_is_no_fault(tmp_path, capfd):
    assert doctor(capfd, tmp_path / "none") == (0, [])
    assert not (tmp_path / "none").exists()


def configured(tmp_path, provider=None, **server):
    path = tmp_path / "config.hujson"
    listeners = [{"listen": "127.0.0.1:0"}]
    providers = {"p": {"models": ["m"], "compatibility": {"openai_chat": True}, "apikey": "a-secret-key"}}
    providers["p"] |= provider or {"baseurl": "http://127.0.0.1:9"}
    app = {"tailscale.com/cap/aperture": [{"role": "admin"}, {"models": "**"}]}
    text = {"providers": providers, "grants": [{"src": ["*"], "app": app}]}
    path.write_text(json.dumps({**text, "server": {"listeners": listeners, **server}}))
    return path


def of(results, check):
    return [each for each in results if each["check"].startswith(check)]


def test_the_configuration_is_checked(tmp_path, state, capfd):
    path = configured(tmp_path, limits={"body_bytes": 4096, "buffer_bytes": 2048})
    status, results = doctor(capfd, state, "--config", path)
    (finding,) = of(results, "configuration")
    assert (status, finding["state"], "bodies of more than 2048" in finding["message"]) == (1, "warning", True)
    path.write_text("{ broken")
    status, results = doctor(capfd, state, "--config", path)
    assert (status, [each["state"] for each in of(results, "configuration")]) == (1, ["error"])
    assert doctor(capfd, state, "--config", tmp_path / "none.hujson")[0] == 1


def test_listeners_that_cannot_be_opened_are_reported(tmp_path, state, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "file").touch()
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(tmp_path / "taken.sock"))
            unix.listen()
            listeners = [
                {"listen": f"127.0.0.1:{port}"},
                {"listen": f"unix:{tmp_path}/taken.sock", "identity": "serve-headers"},
                {"listen": f"unix:{tmp_path}/file", "identity": "serve-headers"},
                {"listen": f"unix:{tmp_path}/none/sock", "identity": "serve-headers"},
                {"listen": "192.0.2.1:80", "identity": "static", "login": "ci"},
                {"listen": f"unix:{tmp_path}/free.sock", "identity": "serve-headers"},
                {"listen": "name.invalid:80", "identity": "static", "login": "ci"},
                {"listen": f"unix:/{'p' * 107}", "identity": "serve-headers"},
                {"listen": f"unix:/{'p' * 400}", "identity": "serve-headers"},
            ]
            status, results = doctor(capfd, state, "--config", configured(tmp_path, listeners=listeners))
    assert status == 1
    assert [each["message"] for each in of(results, "listener")] == [
        "another process listens there",
        "another process listens there",
        "a file that is no socket stands there",
        "No such file or directory",
        "Cannot assign requested address",
        of(results, "listener name.invalid")[0]["message"],
        "File name too long",
        "File name too long",
    ]
    assert "the name name.invalid cannot be looked up" in of(results, "listener name.invalid")[0]["message"]
    assert not (tmp_path / "free.sock").exists()


async def test_a_running_gateway_holds_its_listeners(tmp_path, capfd):
    """Check that `irisgate doctor` reports the listeners of the running gateway as the gateway's own, and not as
    faults.

    Listeners of all identity modes are tried.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listeners = [
        {"listen": f"127.0.0.1:{port}"},
        {"listen": f"127.0.0.2:{port}", "identity": "static", "login": "ci"},
        {"listen": f"127.0.0.3:{port}", "identity": "proxy-protocol", "proxies": ["127.0.0.1"]},
        {"listen": f"127.0.0.4:{port}", "identity": "proxy-protocol", "proxies": ["192.0.2.1"]},
        {"listen": f"127.0.0.5:{port}", "identity": "proxy-protocol"},
        {"listen": f"unix:{tmp_path}/http.sock", "identity": "serve-headers"},
    ]
    config = configured(tmp_path, listeners=listeners)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    async with gate(state, {}, server={"listeners": listeners}):
        arguments = ["doctor", "--state", str(state), "--config", str(config), "--json"]
        checks = await examined(arguments, capfd)
        assert [each["message"] for each in of(checks, "listener")] == ["held by the running gateway"] * len(listeners)
        assert {each["check"].partition(" ")[0] for each in checks if each["state"] == "error"} <= {"tailscaled"}
    assert [each["message"] for each in of(await examined(arguments, capfd), "listener")] == ["free"] * len(listeners)


async def test_a_listener_of_another_program_is_not_held_by_the_gateway(tmp_path, capfd):
    """Check that `irisgate doctor` notices if another program listens at a configured address.

    Two programs are tried: one closes each connection, and the other answers in HTTP.
    """
    state = tmp_path / "state"
    state.mkdir(mode=0o700)

    async def closed(_reader, writer):
        writer.close()

    async def answered(reader, writer):
        await reader.readuntil(b"\n")
        writer.write(b"HTTP/1.1 200 OK\r\nServer: other\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with (
        gate(state, {}),
        await asyncio.start_server(closed, "127.0.0.1", 0) as first,
        await asyncio.start_server(answered, "127.0.0.1", 0) as second,
    ):
        ports = [server.sockets[0].getsockname()[1] for server in (first, second)]
        modes = [{"identity": "proxy-protocol"}, {"identity": "proxy-protocol", "proxies": ["127.0.0.1"]}, {}]
        for mode in modes:
            config = configured(tmp_path, listeners=[{"listen": f"127.0.0.1:{port}", **mode} for port in ports])
            checks = await examined(["doctor", "--state", str(state), "--config", str(config), "--json"], capfd)
            assert [each["message"] for each in of(checks, "listener")] == ["another process listens there"] * 2


CLOSED_FOLDER = """
import os, sys
from gateway.config.model import Config, Listener, Server
from gateway.process.doctor import machine
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
listener = Listener(f"unix:{sys.argv[1]}", host="", unix=sys.argv[1])
print(*machine.listeners(Config(server=Server(listeners=(listener,))), running=False))
"""
"""A program that checks a unix socket's listener as a user who may not access the socket's folder."""


async def test_the_socket_in_a_folder_that_may_not_be_searched_is_reported(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    command = [sys.executable, "-c", CLOSED_FOLDER, str(folder / "http.sock")]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    folder.chmod(0o700)
    assert (process.returncode, b"Permission denied" in out) == (0, True)


async def examined(arguments, capfd):
    await asyncio.to_thread(main, arguments)
    return json.loads(capfd.readouterr().out)["checks"]


def test_a_socket_that_a_killed_gateway_left_is_no_fault(tmp_path, state, capfd):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "left.sock"))
    listeners = [{"listen": f"unix:{tmp_path}/left.sock", "identity": "serve-headers"}]
    assert doctor(capfd, state, "--config", configured(tmp_path, listeners=listeners)) == (0, [])
    assert (tmp_path / "left.sock").exists()


def test_tailscaled_that_is_away_is_reported(tmp_path, state, capfd):
    listeners = [{"listen": "127.0.0.1:0", "identity": "whois", "tailscaled": f"{tmp_path}/tailscaled.sock"}]
    status, results = doctor(capfd, state, "--config", configured(tmp_path, listeners=listeners))
    (result,) = of(results, "tailscaled")
    assert (status, result["remedy"].startswith("start tailscaled")) == (1, True)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:{closed}", "nothing listens there"),
        ("https://127.0.0.1:{open}", "no connection in time"),
        ("http://name.invalid", "name.invalid"),
        ("http://127.0.0.1:{open}", ""),
    ],
)
def test_providers_are_reached_for_on_request_alone(tmp_path, state, capfd, url, words, monkeypatch):
    monkeypatch.setattr("gateway.process.doctor.machine.CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_server(("127.0.0.1", 0)) as other:
        closed = other.getsockname()[1]
        other.close()
        baseurl = url.format(open=listening.getsockname()[1], closed=closed)
        config = configured(tmp_path, {"baseurl": baseurl})
        assert of(doctor(capfd, state, "--config", config)[1], "provider") == []
        results = of(doctor(capfd, state, "--config", config, "--online")[1], "provider p")
    assert [words in each["message"] for each in results] == ([True] if words else [])


def test_the_storage_of_the_configuration_is_checked(tmp_path, state, capfd):
    other = tmp_path / "other.db"
    other.touch(0o600)
    other.write_bytes(b"junk" * 1000)
    path = configured(tmp_path)
    text = json.loads(path.read_text()) | {"storage": {"url": f"sqlite:{other}"}}
    path.write_text(json.dumps(text))
    _, results = doctor(capfd, state, "--config", path)
    assert str(other) in of(results, "database")[0]["message"]
    assert database_path(Config(), Path("/s")) == Path("/s/irisgate.db")


def test_each_result_is_one_line_for_people(state, capfd):
    (state / "irisgate.db").write_bytes(b"junk" * 1000)
    assert main(["doctor", "--state", str(state)]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert all(line.split()[0] in {"ok", "error"} for line in lines)
    (line,) = [line for line in lines if line.startswith("error")]
    assert line == (
        f"error    database: {state}/irisgate.db: file is not a database; "
        "stop the gateway and run irisgate doctor --repair"
    )
