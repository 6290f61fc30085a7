"""Structured logs: one JSON object per line on standard output, or readable text if the output is a terminal.

- A thread writes the lines, because standard output can block (a full pipe, a stopped terminal).
- If a key suggests a secret, `[redacted]` replaces its value. Numbers, booleans, null and empty values are kept.
- Lines that cannot be written (a full disk, a closed pipe) are lost. After the next successful write, the number of
  lost lines is logged.
- Names of events have dots: `call.finished`, `config.reloaded`.
"""

from __future__ import annotations

import json as stdlib_json
import os
import re
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from time import sleep
from typing import Any, Final, Literal, Protocol

import orjson

from gateway.contract.record import Record
from gateway.contract.small_cache import small_cache

MAX_LINES: Final = 10_000
"""Maximum number of queued lines, about 10 MB. If the queue is full, further lines are lost and counted."""
MAX_TEXT: Final = 8192
"""Maximum number of characters of one value in a log line. It is enough for a traceback."""
GATHER_SECONDS: Final = 0.01
"""Seconds for which lines are collected before they are written together, because a write for each line is slow."""
CLOSE_SECONDS: Final = 2.0
"""Maximum number of seconds for which `Lines.close` waits if the output blocks."""
REDACTED: Final = "[redacted]"
_LINE_END: Final = ord("\n")

_SECRET_KEY: Final = re.compile(
    r"api[-_]?key|authorization|secret|password|credential|cookie|signature|private|(^|[-_.])(access|auth)?token$",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = re.compile(r"(?i)\b(bearer|basic) +[\w.+/=~-]{8,}|(?<=credential=)\S+")

_FIRST: Final = dict.fromkeys(("timestamp", "level", "event"))
"""The keys at the beginning of each line."""

Entry = MutableMapping[str, Any]
Level = Literal["info", "warning", "error"]


class Output(Protocol):
    """A binary output. `write` returns the number of written bytes, or None if the write would block."""

    def write(self, data: memoryview, /) -> int | None: ...

    def isatty(self) -> bool: ...


class Logger(Protocol):
    """A logger of structured lines. Each keyword argument becomes a key of the line."""

    def debug(self, event: str, **fields: Any) -> None: ...

    def info(self, event: str, **fields: Any) -> None: ...

    def warning(self, event: str, **fields: Any) -> None: ...

    def error(self, event: str, **fields: Any) -> None: ...

    def exception(self, event: str, **fields: Any) -> None:
        """Log an error with the traceback of the current exception."""

    def later(self, event: str, fields: Callable[[], Mapping[str, Any]], level: Level = "info") -> None:
        """Log a line. The writing thread calls `fields`, so the calling thread need not compute the fields."""


def configure(stream: Output | None = None, *, json: bool | None = None) -> Logger:
    """Return a logger that writes to `stream`, or to standard output if `stream` is None.

    The lines are JSON if `json` is true, and readable text if it is false. By default, they are readable text on a
    terminal and JSON on any other output.

    A thread writes the lines. It ends when the logger is garbage-collected, or when the interpreter exits.
    """
    lines = Lines(_standard_output() if stream is None else stream)
    as_json = not _is_terminal(stream) if json is None else json
    log = _Log(lines, render_json if as_json else _text_renderer())
    weakref.finalize(log, lines.close)
    return log


class _Log:
    """A logger that encodes each line with `render`, and puts it into the queue `lines`."""

    def __init__(self, lines: Lines, render: Callable[[Entry], bytes]) -> None:
        self._lines = lines
        self._render = render

    def debug(self, event: str, **fields: Any) -> None:
        """Do nothing: details below the level `info` are not logged."""

    def info(self, event: str, **fields: Any) -> None:
        self._lines.put(self._line(event, fields, "info"))

    def warning(self, event: str, **fields: Any) -> None:
        self._lines.put(self._line(event, fields, "warning"))

    def error(self, event: str, **fields: Any) -> None:
        self._lines.put(self._line(event, fields, "error"))

    def exception(self, event: str, **fields: Any) -> None:
        self._lines.put(self._line(event, {**fields, "exc_info": sys.exception()}, "error"))

    def later(self, event: str, fields: Callable[[], Mapping[str, Any]], level: Level = "info") -> None:
        self._lines.put(lambda: self._line(event, fields(), level))

    def _line(self, event: str, fields: Mapping[str, Any], level: Level) -> bytes:
        timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        entry = {**_FIRST, **fields, "event": event, "level": level, "timestamp": timestamp}
        failure = entry.pop("exc_info", None)
        if isinstance(failure, BaseException):
            # without local variables, because they would show keys and conversations
            entry["exception"] = "".join(traceback.format_exception(failure)).rstrip("\n")
        return self._render(redact(entry))


def _text_renderer() -> Callable[[Entry], bytes]:
    """Return a function that renders an entry as readable text for a terminal."""
    import structlog  # noqa: PLC0415 (a gateway whose output is no terminal does without it)

    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return lambda entry: console(None, "", entry).encode("utf-8", "replace")


def redact(entry: Mapping[str, Any]) -> Entry:
    """Return an entry without its secrets. This is a safeguard only: no code should log a secret."""
    return {
        key: value
        # most values in the line of a call: numbers, booleans, null, empty values and texts without spaces
        if (kind := type(value)) in _PLAIN
        or (not value and kind in _EMPTY)
        or (kind is str and key in _HARMLESS and len(value) <= MAX_TEXT and " " not in value and "=" not in value)
        else _clean(key, value)
        for key, value in entry.items()
    }


_HARMLESS: Final = frozenset(
    name for name in (*Record.__struct_fields__, "event", "timestamp", "level") if not _SECRET_KEY.search(name)
)
"""Keys whose values are not searched for secrets: the keys in the log line of a call, except those that suggest a
secret."""
_PLAIN: Final = frozenset({int, float, bool, type(None)})
"""Types whose values are never secrets. For example, a number with a key such as `token` is a count."""
_EMPTY: Final = frozenset({str, dict, list})
"""Types whose empty values are logged unchanged. An empty value cannot be a secret."""


def _clean(key: str, value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if _is_secret(key):
        return REDACTED
    if type(value) is str:  # most values; the checks for other types take longer
        return _clean_text(value)
    if isinstance(value, (dict, Mapping)):  # the check for the abstract class is slow
        return redact({str(name): inner for name, inner in value.items()})
    if isinstance(value, (list, tuple)):
        return [_clean("", entry) for entry in value]
    return _clean_text(str(value))


def _clean_text(text: str) -> str:
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    # a credential within a text follows a space or an equals sign, so most values need no search
    return _SECRET_VALUE.sub(REDACTED, text) if " " in text or "=" in text else text


@small_cache(1024, 64)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def render_json(entry: Entry) -> bytes:
    """Return an entry as JSON."""
    try:
        return orjson.dumps(entry)
    except TypeError:
        # orjson refuses integers beyond 64 bits and lone surrogates; the standard library accepts both
        return stdlib_json.dumps(entry, default=str).encode()


class Lines:
    """A queue of log lines, and the thread that writes the lines."""

    def __init__(self, stream: Output) -> None:
        self._stream = stream
        self._queue: deque[bytes | Callable[[], bytes]] = deque()
        self._lost = 0
        self._wake = threading.Event()
        self._closing = False
        self._broken_line = False
        """True if the last write ended in the middle of a line."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes | Callable[[], bytes]) -> None:
        if len(self._queue) >= MAX_LINES:
            self._lost += 1
            return
        self._queue.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write the queued lines and end the writing thread. Wait at most `CLOSE_SECONDS`, because the output may
        block.

        The writing thread itself runs `close` if it drops the last reference to the logger. Then `close` does not wait,
        and the thread ends after it has written the queued lines.
        """
        self._closing = True
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing or self._queue:
            self._wake.wait()
            if not self._closing:
                sleep(GATHER_SECONDS)
            self._wake.clear()
            lost, self._lost = self._lost, 0
            batch = [self._line(self._queue.popleft()) for _ in range(len(self._queue))]
            report = [orjson.dumps({"level": "error", "event": "log.lines_lost", "lost": lost})] if lost else []
            if not self._write(b"".join(line + b"\n" for line in [*batch, *report])):
                self._lost += lost + len(batch)

    @staticmethod
    def _line(line: bytes | Callable[[], bytes]) -> bytes:
        try:
            return line if isinstance(line, bytes) else line()
        except BaseException as error:  # noqa: BLE001 (a line that cannot be rendered must not end the thread)
            return orjson.dumps({"level": "error", "event": "log.line_failed", "reason": type(error).__name__})

    def _write(self, data: bytes) -> bool:
        """Write bytes, and return False if the output fails.

        If a write fails in the middle of a line, the next write begins with a line end, so that later lines can be
        parsed.
        """
        if self._broken_line:
            data = b"\n" + data
        rest = memoryview(data)
        while rest:
            try:
                written = self._stream.write(rest)
            except (OSError, ValueError):
                written_before = len(data) - len(rest)
                self._broken_line = data[written_before - 1] != _LINE_END if written_before else self._broken_line
                return False
            if written is None:  # the output is full and was set to non-blocking by another process
                sleep(0.01)
            else:
                rest = rest[written:]
        self._broken_line = False
        return True


def _standard_output() -> Output:
    """Return standard output without a buffer.

    A buffer has a lock, which the writing thread would hold while a write blocks. The interpreter could not exit then.
    """
    return open(1, "wb", buffering=0, closefd=False)


def _is_terminal(stream: Output | None) -> bool:
    return os.isatty(1) if stream is None else stream.isatty()
