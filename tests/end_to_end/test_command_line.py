"""Tests of mistakes on the command line and of failing output. The command prints one line, without a traceback."""

import asyncio
import json
import sys
from contextlib import suppress

import aiohttp
import pytest

from tests.helpers.gateway import EVERYTHING, bedrock
from tests.helpers.processes import environment, irisgate
from tests.helpers.waiting import eventually

LONG = "x" * 100_000


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.hujson"
    document = {
        "providers": {"b": bedrock("http://127.0.0.1:1")},
        "grants": EVERYTHING,
        "server": {"listeners": [{"listen": "127.0.0.1:0"}]},
    }
    path.write_text(json.dumps(document))
    return path


async def shell(tmp_path, line, **more):
    """Run a command in a shell that finds `irisgate`. Return the status, standard output and standard error."""
    line = line.replace("irisgate", f"{sys.executable} -m gateway")
    variables = {name: value for name, value in environment(tmp_path, **more).items() if name != "PYTHONUNBUFFERED"}
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        line,
        cwd=tmp_path,
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    "command",
    [
        "serve --config config.hujson --state state",
        "serve",
        "check config.hujson",
        "schema",
        "explain --config config.hujson --as (loopback) --model m",
    ],
)
async def test_a_full_disk_behind_standard_output_is_one_line_and_no_denial(tmp_path, config, command):
    command = command.replace("(loopback)", "'(loopback)'")
    status, _, err = await shell(tmp_path, f"irisgate {command} >/dev/full")
    assert (status, err) == (2, "irisgate: cannot write to standard output: No space left on device\n")


async def test_a_pipe_that_is_closed_is_one_line(tmp_path):
    status, out, err = await shell(tmp_path, "{ irisgate schema; echo $? >&2; } | head -n 1")
    assert (status, out) == (0, "{\n")
    assert err == "irisgate: cannot write to standard output: Broken pipe\n2\n"


async def test_letters_that_the_encoding_lacks_are_one_line(tmp_path, config):
    line = "irisgate explain --config config.hujson --as '(loopback)' --model é"
    status, out, err = await shell(tmp_path, line, PYTHONIOENCODING="ascii")
    assert (status, out) == (2, "")
    assert err == "irisgate: standard output cannot show '\\xe9' in ascii; set PYTHONUTF8=1\n"


async def test_errors_that_nobody_takes_leave_the_status_as_it_is(tmp_path):
    assert (await shell(tmp_path, "irisgate check nowhere 2>/dev/full"))[0] == 2
    assert (await shell(tmp_path, "irisgate check nowhere 2>&-"))[0] == 2


async def test_a_command_whose_output_is_closed_still_says_its_verdict(tmp_path, config):
    assert (await shell(tmp_path, "irisgate check config.hujson >&-"))[0] in {0, 1}


async def test_a_gateway_with_a_closed_output_serves_without_a_log(tmp_path, config):
    """Check that a gateway whose standard output is closed serves calls and discards its log.

    The gateway must open the null device in place of the output. Otherwise the first file that it opens would get the
    descriptor of the output, and the log lines would be written to this file.
    """
    listening = {"server": {"listeners": [{"listen": f"unix:{tmp_path}/http.sock", "identity": "serve-headers"}]}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **listening}))
    line = f"exec {sys.executable} -m gateway serve --config config.hujson --state state >&-"
    process = await asyncio.create_subprocess_shell(
        line, cwd=tmp_path, env=environment(tmp_path), stderr=asyncio.subprocess.PIPE
    )
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(f"{tmp_path}/http.sock")) as session:

        async def answers():
            with suppress(aiohttp.ClientConnectorError):
                async with session.get("http://127.0.0.1/healthz") as reply:
                    return reply.status == 200

        await eventually(answers, 30)
    process.terminate()
    _, err = await asyncio.wait_for(process.communicate(), 120)
    assert (process.returncode, b"Traceback" in err) == (0, False), err
    for path in (tmp_path / "state").rglob("*"):
        assert not path.is_file() or b"gateway.started" not in path.read_bytes(), path


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
async def test_a_configuration_may_come_from_standard_input(tmp_path, config, name):
    status, out, err = await shell(tmp_path, f"cat config.hujson | irisgate check {name}")
    assert (status in {0, 1}, err) == (True, "")
    assert out.splitlines()[-1].startswith("standard input: 1 providers")
    status, _, err = await shell(tmp_path, f"printf '{{\\n]' | irisgate check {name}")
    assert (status, err) == (2, "standard input:2:1: expected a key in double quotes\n")
    status, _, err = await shell(tmp_path, f"irisgate check {name} <&-")
    assert (status, err) == (2, "irisgate check: standard input is closed\n")


async def test_standard_input_without_an_end_is_read_to_the_limit(tmp_path):
    status, _, err = await shell(tmp_path, "irisgate check - </dev/zero")
    assert (status, err) == (2, "standard input: is larger than 4194304 bytes, which is the most that is read\n")


async def test_a_plugin_that_ends_the_process_is_named_like_other_faults(tmp_path, config):
    (tmp_path / "plugins").mkdir()
    (sick := tmp_path / "plugins/sick.py").write_text("raise SystemExit(7)")
    status, out, err = await irisgate(tmp_path, "check", str(config), "--plugins", "plugins")
    told = f"{sick}:1: plugin sick: SystemExit: 7; a plugin must not end the process\n"
    assert (status, out, err) == (2, "", told)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", ""], "irisgate check: error: argument FILE: is empty; write a path"),
        (["check", "c", "--plugins", ""], "irisgate check: error: argument --plugins: is empty; write a path"),
        (["serve", "--config", ""], "irisgate serve: error: argument --config: is empty; write a path"),
        (["check", "a\nb\x1b[31m"], "a\\nb\\x1b[31m: cannot be read: No such file or directory"),
        (["check", "a" * 4000], f"{'a' * 100}...: cannot be read: File name too long"),
        (["check", "c", "--plugins", "a\nb"], "irisgate: --plugins a\\nb: No such file or directory"),
        (["explain", "--config", "c", "--as", "  ", "--model", "m"], "irisgate explain: --as: the name is empty"),
        (["explain", "--config", "c", "--as", "a@b", "--model", ""], "irisgate explain: --model: the name is empty"),
        (["explain", "--config", "c", "--as", "a@b", "--model", " "], "irisgate explain: --model: the name is empty"),
        (
            ["explain", "--config", "c", "--as", "a@b", "--model", LONG],
            "irisgate explain: --model: the name has more than 1000 characters",
        ),
    ],
)
async def test_what_cannot_be_meant_is_said_in_a_line(tmp_path, arguments, message):
    status, out, err = await irisgate(tmp_path, *arguments)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(message)


async def test_what_a_killed_save_left_is_gone_after_the_start(tmp_path, config):
    left = tmp_path / (".config.hujson." + "a" * 16)
    left.write_text('{"apikey": "canary"}')
    status, _, _ = await shell(tmp_path, "irisgate serve --config config.hujson --state state >/dev/full")
    assert (status, left.exists()) == (2, False)
