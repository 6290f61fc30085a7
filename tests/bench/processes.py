"""Processes that are measured: their start, their processor, their CPU time and their memory.

The systems under test run on one processor, and the upstream and the load client on another, so that they do not delay
each other. Each system is a session of processes, so that its children are found and counted.
"""

import asyncio
import os
import re
import signal
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.ports import is_listening

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
"""Maximum number of seconds for a system to start. On a busy machine, some need half a minute."""
PROCESSORS = tuple(sorted(os.sched_getaffinity(0)))
SYSTEMS, LOAD = PROCESSORS[0], PROCESSORS[-1]
"""Processors of the systems under test, and of the upstream and the load client."""


class NotStarted(Exception):
    """The error for a measured system that has ended, or does not listen in time."""


@dataclass(frozen=True)
class Process:
    """A measured system that is running: its main process, and the port on which it listens."""

    pid: int
    port: int

    @property
    def pids(self):
        """The ids of all processes in the process's session (setsid(2)): the process and its descendants."""
        names = (path.name for path in Path("/proc").iterdir())
        return sorted(pid for pid in map(int, filter(str.isdigit, names)) if _session(pid) == self.pid)

    @property
    def resident_bytes(self):
        return resident_bytes(self.pids)

    @property
    def cpu_seconds(self):
        return cpu_seconds(self.pids)


def cpu_seconds(pids):
    """Return the CPU time of processes."""
    return sum(time.clock_gettime(_cpu_clock(pid)) for pid in pids)


def _cpu_clock(pid):
    """Return the clock of another process's CPU time, as glibc's `clock_getcpuclockid` computes it."""
    return ~pid << 3 | 2


def _session(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    except (FileNotFoundError, ProcessLookupError):
        return None


def resident_bytes(pids):
    """Return the resident memory of processes."""
    return sum(map(_resident_bytes, pids))


def _resident_bytes(pid):
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    resident = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return 1024 * int(resident[1]) if resident else 0


@contextmanager
def on_processor(*numbers):
    """Run this thread, and the processes that it starts, on these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, numbers)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def environment(folder, **more):
    """Return environment variables for a measured system: those of this process and `more`.

    Variables that could change the system's behaviour, such as AWS credentials, are left out.
    """
    unwanted = ("AWS_", "XDG_", "STATE_", "OPENAI_", "PYTHONDONTWRITEBYTECODE")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**variables, "HOME": str(folder), "AWS_REGION": "us-east-1", **more}


@asynccontextmanager
async def started(command, folder, port_pattern=None, port=0, processors=(SYSTEMS,), **variables):
    """Run a system during an `async with` block, and yield it when it listens.

    A system prints its port in a line that matches `port_pattern`, or listens on `port`. Its output is in a file of the
    folder. Raises `NotStarted` if it does not listen.
    """
    output = folder / "output"
    with output.open("wb") as file, on_processor(*processors):
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=folder,
            env=environment(folder, **variables),
            start_new_session=True,
        )
    try:
        yield Process(process.pid, await _listening_port(process, output, port_pattern, port))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _listening_port(process, output, pattern, port):
    until = time.monotonic() + START_SECONDS
    while process.returncode is None and time.monotonic() < until:
        if pattern is not None:
            printed = re.search(pattern, output.read_text(errors="replace"))
            port = int(printed[1]) if printed else 0
        if port and await is_listening(port):
            return port
        await asyncio.sleep(0.02)
    lines = output.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    raise NotStarted(lines[-1])
