"""The `irisgate` command in processes that are forked from a process in which the gateway is already imported.

- The imports take a second of CPU time, and the tests start the command several hundred times.
- A forked process has its own id, signals, outputs, environment, folder and exit status.
- The interpreter starts and ends in another way than in `irisgate`. So the tests in
  `end_to_end/test_command_line.py` and `release/test_wheel.py` start the real command.
"""

import asyncio
import atexit
import faulthandler
import multiprocessing
import os
import signal
import sys
from contextlib import contextmanager, suppress
from multiprocessing import forkserver

from gateway.contract.registry import discover
from gateway.process.command_line import main, parser_of

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload([__name__])


class Forked:
    """A process with the attributes and methods of `asyncio.subprocess.Process` that the tests use."""

    def __init__(self, process, stdout, stderr):
        self._process = process
        self.pid = process.pid
        self.stdout = stdout
        self.stderr = stderr

    @property
    def returncode(self):
        return self._process.exitcode

    def send_signal(self, number):
        """Send a signal. Do nothing if the process has ended, as `subprocess.Popen` does."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    async def wait(self):
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        return self.returncode


async def fork(arguments, *, cwd, env):
    """Start `irisgate` with these arguments, and return its process. The caller must read its standard output and
    standard error, because both are pipes.
    """
    with _python_path(env["PYTHONPATH"]):
        forkserver.ensure_running()
    pipes = [FORKING.Pipe(duplex=False) for _ in range(2)]
    ends = [end for _, end in pipes]
    process = FORKING.Process(target=_run, args=(list(map(str, arguments)), str(cwd), dict(env), *ends))
    process.start()
    for end in ends:
        end.close()
    return Forked(process, *[await _reader(pipe) for pipe, _ in pipes])


@contextmanager
def _python_path(path):
    """Set PYTHONPATH, so that the process from which others are forked can import this module."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = path
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


async def _reader(pipe):
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def _run(arguments, folder, variables, *ends):
    """Run a command in a process that has just been forked. `ends` are the pipes that become its standard output and
    standard error.
    """
    for number, end in enumerate(ends, 1):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdout.reconfigure(write_through=True)
    sys.argv = ["irisgate", *arguments]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    signal.signal(signal.SIGQUIT, _print_tasks)
    faulthandler.register(signal.SIGQUIT, sys.stdout, chain=True)
    try:
        sys.exit(main(arguments))
    finally:
        # a forked process ends without them
        atexit._run_exitfuncs()


def _print_tasks(*_):
    """Print the stack of each task of every event loop. Tests send SIGQUIT for this to a process that does not end."""
    for task in list(asyncio.tasks._all_tasks):
        if not task.done():
            task.print_stack(file=sys.stdout)


# imports the commands, and the built-in plugins
parser_of()
discover()
