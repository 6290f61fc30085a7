"""Standard output and standard error of the commands, and failures to write to them.

A full disk, a closed pipe or an encoding without the characters is an error like others: a line on standard error and
an exit status, never a traceback, and never a status with another meaning. The log has an output of its own
(`telemetry/log.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


class OutputFailed(Exception):
    """Standard output does not take what it was given; the message says why."""


def say(text: str | bytes) -> None:
    """Write a text and a line end, or bytes as they are, to standard output. Raises `OutputFailed`."""
    with writing():
        if isinstance(text, str):
            print(text)  # noqa: T201 (the one place)
        elif sys.stdout is not None:
            sys.stdout.flush()
            sys.stdout.buffer.write(text)


@contextmanager
def writing() -> Iterator[None]:
    """Flush what is written to standard output within, or raise `OutputFailed`.

    A standard output that was closed before the start is no fault: nobody listens.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        _abandon(sys.stdout)
        raise OutputFailed(f"cannot write to standard output: {error.strerror}") from None
    except UnicodeEncodeError as error:
        sign = error.object[error.start]
        raise OutputFailed(f"standard output cannot show {sign!a} in {error.encoding}; set PYTHONUTF8=1") from None


def fill_closed_outputs() -> None:
    """Open the null device where standard output or standard error was closed before the start.

    Otherwise the next file that is opened gets that number, and log lines are written into it.
    """
    for number in (1, 2):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)


def complain(text: str) -> None:
    """Write a line to standard error, where that is possible."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 (the one place)
    except OSError:
        _abandon(sys.stderr)


def _abandon(stream: TextIO) -> None:
    """Discard what is in the buffer: the interpreter would try again at its end, and report it there."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
