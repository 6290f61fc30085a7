"""Tests of the log: each line is one JSON object, no line has a secret, and a blocked output delays no call."""

import io
import json
import os
import subprocess
import sys
import threading
from time import sleep

import pytest

from gateway.telemetry.log import MAX_LINES, REDACTED, Lines, configure, redact
from tests.helpers.records import logger, record
from tests.helpers.waiting import SECONDS, eventually_without_a_loop


def written(out, count=1):
    eventually_without_a_loop(lambda: out.getvalue().count(b"\n") >= count)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_and_event_first():
    log, out = logger()
    log.info("config.reloaded", path="config.hujson", providers=2)
    (line,) = written(out)
    assert list(line) == ["timestamp", "level", "event", "path", "providers"]
    assert (line["level"], line["event"], line["providers"]) == ("info", "config.reloaded", 2)
    assert line["timestamp"].endswith("Z")


def test_a_call_is_one_line_with_the_whole_record():
    log, out = logger()
    log.info("call.finished", **record().as_dict())
    (line,) = written(out)
    assert {key: line[key] for key in record().as_dict()} == record().as_dict()


def test_line_breaks_in_a_value_make_no_new_line():
    log, out = logger()
    log.warning("call.refused", model='a\n{"event": "forged"}')
    assert len(written(out)) == 1


def test_an_exception_comes_with_its_traceback_and_without_local_values():
    log, out = logger()
    try:
        break_with("local-value")
    except RuntimeError:
        log.exception("call.crashed", request_id="req_1")
    (line,) = written(out)
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]
    assert "RuntimeError: it broke" in line["exception"]
    assert "local-value" not in line["exception"].replace('break_with("local-value")', "")


def break_with(_hidden):
    raise RuntimeError("it broke")


def test_details_below_info_are_not_written():
    log, out = logger()
    log.debug("chatty")
    log.info("plain")
    assert [line["event"] for line in written(out)] == ["plain"]


@pytest.mark.parametrize(
    "key",
    [
        "apikey", "api_key", "API-Key", "x-api-key", "authorization", "Authorization", "secret", "client_secret",
        "password", "token", "access_token", "session-token", "x-amz-security-token", "aws_credentials", "cookie",
    ],
)  # fmt: skip
def test_values_of_keys_that_name_a_secret_are_never_written(key):
    assert redact({key: "hunter2", "headers": {key: ["hunter2"]}, "list": [{key: "hunter2"}]}) == {
        key: REDACTED,
        "headers": {key: REDACTED},
        "list": [{key: REDACTED}],
    }


def test_keys_in_running_text_are_taken_out():
    entry = redact({"reason": "sent Authorization: Bearer ABSKQmVkcm9jay1rZXk= to the provider"})
    assert entry == {"reason": f"sent Authorization: {REDACTED} to the provider"}


def test_counts_of_tokens_are_no_secret():
    entry = {"tokens": {"input": 3}, "max_tokens": 5, "token": 7}
    assert redact(dict(entry)) == entry


def test_a_value_without_end_is_cut():
    assert len(redact({"model": "x" * 10_000_000})["model"]) == 8192


@pytest.mark.parametrize("value", [2**80, "\ud800", b"bytes", {1: 2}, object, float("nan"), ("a", 1)])
def test_any_value_can_be_logged(value):
    log, out = logger()
    log.info("odd", value=value)
    assert written(out)[0]["event"] == "odd"


class Blocked:
    """An output that accepts nothing until it is released."""

    def __init__(self):
        self.begun = threading.Event()
        self.go = threading.Event()
        self.taken = b""

    def isatty(self):
        return False

    def write(self, data):
        self.begun.set()
        self.go.wait()
        self.taken += bytes(data)
        return len(data)


def test_an_output_that_blocks_holds_nobody_up_and_losses_are_told():
    out = Blocked()
    log = configure(out)
    log.info("first")
    assert out.begun.wait(10)
    for number in range(MAX_LINES + 50):
        log.info("line", number=number)
    out.go.set()
    eventually_without_a_loop(lambda: b"log.lines_lost" in out.taken)
    lines = [json.loads(line) for line in out.taken.splitlines()]
    assert [line["lost"] for line in lines if line["event"] == "log.lines_lost"] == [50]
    assert len([line for line in lines if line["event"] == "line"]) == MAX_LINES


class Trickle(io.BytesIO):
    """A non-blocking pipe that accepts three bytes in each write, and sometimes none."""

    calls = 0

    def write(self, data):
        self.calls += 1
        return None if self.calls % 5 == 0 else super().write(data[:3])


def test_an_output_that_takes_little_gets_every_byte_in_order():
    out = Trickle()
    log = configure(out, json=True)
    log.info("plain", text="x" * 100)
    assert written(out)[0]["text"] == "x" * 100


def test_an_output_that_is_gone_stops_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as out:
        log = configure(out)
        for _ in range(3):
            log.info("unheard")
            sleep(0.01)


class Full(io.BytesIO):
    """An output on a disk with room for 10 bytes. When the disk is full, `write` raises an error."""

    def __init__(self):
        super().__init__()
        self.room = 10

    def write(self, data):
        if self.room == 0:
            raise OSError(28, "No space left on device")
        written = super().write(data[: self.room])
        self.room -= written
        return written


def test_after_a_full_disk_lines_are_written_again_and_losses_are_told():
    out = Full()
    lines = Lines(out)
    lines.put(b"one line that does not fit")
    eventually_without_a_loop(lambda: lines._lost == 1)
    out.room = 1000
    lines.put(b"two")
    lines.put(lambda: (_ for _ in ()).throw(SystemExit))
    lines.close()
    first, *rest = out.getvalue().splitlines()
    assert first == b"one line t"
    assert rest[0] == b"two"
    told = [json.loads(line) for line in rest[1:]]
    assert [entry["event"] for entry in told] == ["log.line_failed", "log.lines_lost"]
    assert told[1]["lost"] == 1


def test_a_mapping_under_the_name_of_a_secret_is_not_written():
    assert redact({"credential": {"value": "hunter2"}}) == {"credential": REDACTED}


def test_closing_writes_what_is_queued():
    out = io.BytesIO()
    lines = Lines(out)
    for number in range(100):
        lines.put(b"%d" % number)
    lines.close()
    assert out.getvalue().split() == [b"%d" % number for number in range(100)]


def test_a_dropped_logger_writes_its_lines_and_ends_its_thread():
    out = io.BytesIO()
    log = configure(out, json=True)
    thread = log._lines._thread
    log.info("config.reloaded")
    del log
    assert b"config.reloaded" in out.getvalue()
    assert not thread.is_alive()


def test_the_thread_that_drops_the_last_reference_to_its_logger_ends():
    out = io.BytesIO()
    log = configure(out, json=True)
    thread, dropped = log._lines._thread, threading.Event()

    def fields():
        dropped.wait(SECONDS)
        return {"path": "x"}

    log.later("config.reloaded", fields)
    del log
    dropped.set()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert json.loads(out.getvalue())["path"] == "x"


def test_a_terminal_gets_text_for_people():
    out = io.BytesIO()
    configure(out, json=False).info("config.reloaded", path="x")
    eventually_without_a_loop(lambda: out.getvalue().endswith(b"\n"))
    assert b"config.reloaded" in out.getvalue()
    assert not out.getvalue().startswith(b"{")


def test_the_last_lines_of_a_process_are_written_to_standard_output():
    code = "from gateway.telemetry.log import configure\nconfigure().info('server.stopped', why='test')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout)["event"] == "server.stopped"
    assert done.stderr == b""
