"""Keys that a program prints.

- The program prints the key itself, or a JSON object with the field `key`. If the key expires, the object has a field
  `expires_at` (RFC 3339, or Unix time) or `expires_in` (seconds).
- If a key has no expiry, the program runs again after five minutes (`renewal.py`), or when the provider refuses the
  key.
- The program's errors go to the standard error of the gateway, and not into the log, because they may show secrets.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from datetime import datetime
from math import inf, isfinite
from pathlib import Path
from threading import Event, Timer
from time import time
from typing import Any, Final

import orjson

from gateway.config.credentials import KeyHelper
from gateway.upstream.credentials.renewal import CredentialFailed, Obtained, Renewed
from gateway.upstream.credentials.sigv4 import Signer
from gateway.upstream.credentials.values import Key
from gateway.upstream.subjects import Subject

RUN_SECONDS: Final = 30.0
"""Maximum number of seconds for which a program may run. A sign-in over the network takes a few seconds."""
MAX_OUTPUT: Final = 64 * 1024
"""Maximum number of bytes of a program's output. Keys are shorter."""


class _Failed(Exception):
    """The error for a program that failed, took too long or printed too much."""


class KeyHelperAccess:
    """Runs the program that prints the key of one provider, and keeps the key. `failed` is called after each failure to
    obtain the key.
    """

    def __init__(self, helper: KeyHelper, threads: Executor, failed: Callable[[CredentialFailed], None]) -> None:
        self._command = helper.command
        self._threads = threads
        self._name = Path(helper.command[0]).name
        self._key: Renewed[Signer | Key] = Renewed(self._print, time, failed)

    def credential(self, _subject: Subject) -> Renewed[Signer | Key]:
        """Return the key, which is the same for all callers."""
        return self._key

    async def has_other(self, _subject: Subject, refused: Signer | Key, _date: str) -> bool:
        """Return whether the program prints a key other than the refused one."""
        return await self._key.other_than(refused) is not None

    async def _print(self) -> Obtained[Signer | Key]:
        remedy = f"run the program {self._name} as the gateway's user"
        try:
            output = await asyncio.get_running_loop().run_in_executor(self._threads, _output, self._command)
            return self._read(output.decode().strip())
        except OSError as error:
            raise CredentialFailed(f"{self._name} cannot be run: {error.strerror}", remedy) from None
        except _Failed as failure:
            raise CredentialFailed(f"{self._name} {failure}", remedy) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise CredentialFailed(f"{self._name} printed neither a key nor a JSON object with a key", remedy) from None

    def _read(self, text: str) -> Obtained[Signer | Key]:
        """Return the key in a program's output. Raises `ValueError`, `TypeError` or `KeyError` if there is none."""
        printed: dict[str, Any] = orjson.loads(text) if text.startswith("{") else {"key": text}
        value = printed["key"]
        if not value.isprintable() or not value.isascii() or not value or " " in value:
            raise ValueError("a key has neither spaces nor line breaks")
        return Obtained(Key(value, f"key of the program {self._name}"), _expiry(printed))


def _output(command: Sequence[str]) -> bytes:
    """Return the output of a program. Raises `OSError` if it cannot be run, and `_Failed` if it fails.

    A program that takes too long or prints too much is killed, with all processes that it has started.
    """
    late = Event()
    with subprocess.Popen(  # noqa: S603 (the operator has put the program into the folder of helpers)
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None

        def kill() -> None:
            late.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = Timer(RUN_SECONDS, kill)
        timer.start()
        try:
            output = process.stdout.read(MAX_OUTPUT + 1)
            if len(output) > MAX_OUTPUT:
                os.killpg(process.pid, signal.SIGKILL)
                raise _Failed(f"printed more than {MAX_OUTPUT} bytes")
            status = process.wait()
        finally:
            timer.cancel()
    if late.is_set():
        raise _Failed(f"did not end within {RUN_SECONDS:g} seconds")
    if status != 0:
        raise _Failed(f"ended with status {status}")
    return output


def _expiry(printed: dict[str, Any]) -> float:
    if (seconds := printed.get("expires_in")) is not None:
        at = time() + float(seconds)
    elif (moment := printed.get("expires_at")) is None:
        return inf
    elif isinstance(moment, str):
        at = datetime.fromisoformat(moment).timestamp()
    else:
        at = float(moment)
    if not isfinite(at):
        raise ValueError("the expiry is no time")
    return at
