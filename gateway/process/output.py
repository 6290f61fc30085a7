"""Writes the commands' output to standard output and standard error, and handles failed writes.

A write fails if the disk is full, a pipe is closed or the encoding lacks a character. The command then prints one line
to standard error, without a traceback, and exits with an error status. The log does not use this module
(`telemetry/log.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


class UsageError(Exception):
    """An error that ends a command. The message is printed to standard error, and the exit status is 2."""


class OutputFailed(Exception):
    """A failed write to standard output. The message has the reason."""


def say(text: str | bytes) -> None:
    """Write to standard output: either a text, followed by a line end, or bytes as they are.

    Raises `OutputFailed` if the write fails.
    """
    with writing():
        if isinstance(text, str):
            # one write, so that no line of the log comes between the text and its end
            print(f"{text}\n", end="")  # noqa: T201 (the one place)
        elif sys.stdout is not None:
            sys.stdout.flush()
            sys.stdout.buffer.write(text)


@contextmanager
def writing() -> Iterator[None]:
    """Flush standard output at the end of the block. Raises `OutputFailed` if a write or the flush fails.

    If standard output was closed before the process started, nothing is written and nothing is raised.
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
    """Open the null device for standard output and standard error if they were closed before the process started.

    Otherwise the next opened file would get the file descriptor 1 or 2, and log lines would be written to that file.
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
    """Write a line to standard error. If that fails with an `OSError`, the line is lost."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 (the one place)
    except OSError:
        _abandon(sys.stderr)


def _abandon(stream: TextIO) -> None:
    """Connect the stream, to which a write has failed, to the null device.

    Otherwise the interpreter would try to write the rest of the buffer at exit. It would then print an error of its
    own.
    """
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
