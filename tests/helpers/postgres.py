"""A PostgreSQL server of the tests' own: a new cluster in a temporary folder, with a Unix socket and no port.

One cluster serves all tests of a process, and each test has a database of its own. PostgreSQL refuses to run as root.
So if the tests run as root, the server runs as another user.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.record import Record
from gateway.store.postgres.address import Address
from tests.helpers.records import Puts

_PORT = 5432
STOP_SECONDS = 30
_SETTINGS = {
    "listen_addresses": "''",
    # a test loses nothing that it needs if the machine fails
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
    # a replica can be made
    "wal_level": "replica",
    "max_wal_senders": "4",
}


def programs() -> Path | None:
    """Return the folder with PostgreSQL's programs, or None if there is none. On Debian, the folder is not on the
    PATH.
    """
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return Path(found).resolve().parent if found else folders[-1].parent if folders else None


class Cluster:
    """A PostgreSQL server in a new folder."""

    def __init__(self, *, primary: Cluster | None = None) -> None:
        """Start a new server. If `primary` is given, the server is a replica of `primary`."""
        self.programs = programs()
        assert self.programs is not None
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.user = _user()
        shutil.chown(self.folder, self.user)
        self._databases = count()
        self._server: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)
        if primary is None:
            self._run("initdb", "--username=irisgate", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync",
                      "--no-instructions", f"--pgdata={self.data}")  # fmt: skip
            self._write_settings()
        else:
            self._run("pg_basebackup", f"--pgdata={self.data}", f"--host={primary.folder}", "--username=irisgate",
                      "--write-recovery-conf", "--checkpoint=fast", "--no-sync")  # fmt: skip
            # the primary's settings, but for the folder of the socket
            self._write_settings()
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _write_settings(self) -> None:
        settings = _SETTINGS | {"unix_socket_directories": f"'{self.folder}'"}
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def _run(self, program: str, *arguments: str) -> str:
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(command, user=self.user, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self._run("pg_ctl", "start", f"--pgdata={self.data}", "--wait", f"--log={self.folder / 'log'}", "--silent")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server. The mode `immediate` is like a crash.

        If the server has not ended in the mode `fast` after `STOP_SECONDS`, which happens once in hundreds of runs on a
        busy machine, it is stopped as in a crash. Its data survive both.
        """
        try:
            wait = ("--wait", f"--timeout={STOP_SECONDS}", "--silent")
            self._run("pg_ctl", "stop", f"--pgdata={self.data}", f"--mode={mode}", *wait)
        except AssertionError:
            if mode != "fast":
                raise
            self.stop("immediate")

    def pause(self) -> None:
        """Let the server and its processes hang, as if the network had failed."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        for process in self._processes():
            with suppress(ProcessLookupError):  # a process whose connection was closed meanwhile
                os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        server = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        return [server, *map(int, children)]

    def sql(self, statement: str, database: str = "postgres") -> list[list[str]]:
        """Run a statement with `psql`, and return the rows with their values as texts."""
        output = self._run("psql", f"--host={self.folder}", "--username=irisgate", f"--dbname={database}", "--no-psqlrc",
                           "--tuples-only", "--no-align", "--quiet", "--command", statement)  # fmt: skip
        return [line.split("|") for line in output.splitlines()]

    def address(self, database: str | None = None) -> Address:
        """Return the address of a new database, or of the database of this name."""
        if database is None:
            database = f"db{next(self._databases)}"
            self.sql(f"CREATE DATABASE {database}")
        return Address(host=str(self.folder), port=_PORT, user="irisgate", database=database)

    def url(self, address: Address) -> str:
        """Return the value of `storage.url` for an address on this server."""
        return f"postgresql://irisgate@/{address.database}?host={self.folder}"

    def give(self, file: Path, name: str) -> None:
        """Copy a file to the server's data folder, where only the server may read it."""
        copied = self.data / name
        shutil.copy(file, copied)
        copied.chmod(0o600)
        shutil.chown(copied, self.user)

    def remove(self) -> None:
        """Stop the server, and remove its folder."""
        atexit.unregister(self.remove)
        if (self.data / "postmaster.pid").exists():
            self.resume()
            self.stop("immediate")
        shutil.rmtree(self.folder)


def _user() -> str:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def require_postgres() -> None:
    """Skip the test if PostgreSQL or asyncpg is not installed."""
    if find_spec("asyncpg") is None:
        pytest.skip("asyncpg is not installed (the extra postgres)")
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")


@cache
def cluster() -> Cluster:
    """Return the server of this process. Skip the test if no server can be run."""
    require_postgres()
    return Cluster()


def kept_in_postgres(address: Address | None = None, **options: Address) -> Callable[..., Any]:
    """Return a function that opens a store in the database at `address`, or in a new database if `address` is None.

    The function's argument is the id of the store's journal.
    """
    address = address or cluster().address()
    # it needs asyncpg
    from gateway.store.postgres.store import PostgresStore

    class KeptInPostgres(Puts, PostgresStore):
        pass

    return lambda journal="journal": KeptInPostgres(address, journal, **options)


def store_calls(address: Address, calls: Iterable[Record]) -> None:
    """Store calls in the database at `address`. Make its tables first if it has none."""

    async def stored() -> None:
        store = kept_in_postgres(address)()
        for call in calls:
            store.put(call)
        await store.flush()
        await store.close()

    asyncio.run(stored())
