"""Tests of the process as operators run it: commands, reloads when the file is saved, and signals that stop the
process.
"""

import asyncio
import json
import os
import re
import shutil
import signal

import aiohttp
import pytest

from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from tests.helpers.gateway import EVERYTHING, HAIKU, bedrock
from tests.helpers.processes import CHAT, ROOT, irisgate, served


def configuration(url, **provider):
    return {
        "providers": {"b": bedrock(url, **provider)},
        "grants": EVERYTHING,
        "server": {"listeners": [{"listen": "127.0.0.1:0"}]},
    }


@pytest.fixture
def config(tmp_path, bedrock_sim):
    path = tmp_path / "config.hujson"
    path.write_text(json.dumps(configuration(bedrock_sim.url)))
    return path


async def test_help_tells_of_the_commands_and_version_of_the_release(tmp_path):
    status, out, _ = await irisgate(tmp_path, "--help")
    assert status == 0
    assert all(command in out for command in ("serve", "check", "demo"))
    status, out, _ = await irisgate(tmp_path, "--version")
    assert (status, out.startswith("irisgate ")) == (0, True)
    status, out, _ = await irisgate(tmp_path, "serve", "--help")
    assert all(option in out for option in ("--config", "--listen", "--state", "--plugins"))


async def test_serve_without_a_configuration_prints_one_that_is_good(tmp_path):
    status, out, err = await irisgate(tmp_path, "serve")
    assert status == 2
    assert "--config" in err
    (tmp_path / "minimal.hujson").write_text(out)
    status, out, err = await irisgate(tmp_path, "check", "minimal.hujson")
    assert (status, err) == (1, "")
    assert "apikey: is a placeholder" in out
    assert "1 providers, 4 models, 1 warnings" in out


async def test_all_errors_of_a_configuration_come_at_once_with_their_places(tmp_path):
    text = '{\n  "providers": {"b": {"baseurl": "ftp://x", "apikey": "env:NOT_THERE", "authorization": "beaer", "models": ["m"]}},\n  "server": {"listeners": [{"listen": "0.0.0.0:80"}]}\n}'
    (tmp_path / "broken.hujson").write_text(text)
    for command in (["check", "broken.hujson"], ["serve", "--config", "broken.hujson"]):
        status, _, err = await irisgate(tmp_path, *command)
        assert status == 2
        assert re.search(r"broken\.hujson:2:\d+: providers\.b\.authorization: .*beaer.*bearer, x-api-key", err)
        assert "providers.b.baseurl" in err
        assert "NOT_THERE" in err
        assert re.search(r"broken\.hujson:3:\d+: server\.listeners", err)
        assert "Traceback" not in err


async def test_an_address_that_is_taken_is_one_clear_line(tmp_path, config, bedrock_sim):
    taken = bedrock_sim.url.removeprefix("http://")
    status, _, err = await irisgate(tmp_path, "serve", "--config", str(config), "--listen", taken)
    assert status == 2
    assert "cannot listen" in err
    assert "Traceback" not in err


async def test_saving_the_file_rotates_a_key_unless_it_is_broken(tmp_path, bedrock_sim, config):
    """Check that the gateway uses a new key as soon as its configuration file is saved, and that saving an invalid file
    changes nothing.
    """
    async with served(tmp_path, "serve", "--config", str(config)) as running:
        assert (await running.chat())[0] == 200
        bedrock_sim.keys = {"rotated-canary-key"}
        assert (await running.chat())[0] == 502
        config.write_text(json.dumps(configuration(bedrock_sim.url, apikey="rotated-canary-key")))
        await running.line("config.reloaded")
        assert (await running.chat())[0] == 200
        assert bedrock_sim.requests[-1].headers["authorization"] == "Bearer rotated-canary-key"
        config.write_text("{ broken")
        await running.line("config.refused")
        assert (await running.chat())[0] == 200
        async with running.session.get(running.url + "/readyz") as reply:
            assert (reply.status, (await reply.json())["config"]) == (200, "stale")
        assert not [line for line in running.lines if "canary" in line]
        assert await running.end() == 0


async def test_a_changed_key_file_counts_from_the_next_call(tmp_path, bedrock_sim, config):
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text("first-canary-key")
    bedrock_sim.keys = {"first-canary-key"}
    config.write_text(json.dumps(configuration(bedrock_sim.url, apikey=f"file:{key}")))
    async with served(tmp_path, "serve", "--config", str(config)) as running:
        assert (await running.chat())[0] == 200
        bedrock_sim.keys = {"second-canary-key"}
        key.write_text("second-canary-key")
        await running.line("config.reloaded")
        assert (await running.chat())[0] == 200
        assert await running.end() == 0


async def test_a_call_in_flight_keeps_the_configuration_that_it_began_with(tmp_path, bedrock_sim, config):
    held = scenarios.Gate()
    bedrock_sim.script(scenarios.replace(scenarios.NAMED["text"], gate=held))
    async with served(tmp_path, "serve", "--config", str(config)) as running:
        async with running.session.post(running.url + "/v1/chat/completions", json={**CHAT, "stream": True}) as reply:
            await reply.content.readany()
            config.write_text(json.dumps({**configuration(bedrock_sim.url), "providers": {}}))
            running.process.send_signal(signal.SIGHUP)
            await running.line("config.reloaded")
            assert (await running.chat())[0] == 404
            held.let_pass(100)
            assert b"[DONE]" in await reply.content.read()
        assert await running.end() == 0


async def test_a_stop_lets_a_stream_finish_and_takes_no_new_calls(tmp_path, bedrock_sim, config):
    held = scenarios.Gate()
    bedrock_sim.script(scenarios.replace(scenarios.NAMED["text"], gate=held))
    async with served(tmp_path, "serve", "--config", str(config)) as running:
        async with running.session.post(running.url + "/v1/chat/completions", json={**CHAT, "stream": True}) as reply:
            await reply.content.readany()
            running.process.send_signal(signal.SIGTERM)
            await running.line("gateway.draining")
            with pytest.raises(aiohttp.ClientConnectionError):
                await running.chat()
            held.let_pass(100)
            assert b"[DONE]" in await reply.content.read()
        assert await asyncio.wait_for(running.process.wait(), 30) == 0
        await running.line('"event":"call.finished".*"outcome":"ok"')
        await running.line("gateway.stopped")


async def test_a_second_signal_ends_the_calls_at_once(tmp_path, bedrock_sim, config):
    bedrock_sim.script(scenarios.replace(scenarios.NAMED["text"], gate=scenarios.Gate()))
    async with served(tmp_path, "serve", "--config", str(config)) as running:
        async with running.session.post(running.url + "/v1/chat/completions", json={**CHAT, "stream": True}) as reply:
            await reply.content.readany()
            running.process.send_signal(signal.SIGTERM)
            await running.line("gateway.draining")
            running.process.send_signal(signal.SIGINT)
            assert b'"error"' in await reply.content.read()
        assert await asyncio.wait_for(running.process.wait(), 30) == 0
        await running.line('"event":"call.finished".*"outcome":"failed"')


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ["serve", "--config", "{config}", "--plugins", "{folder}/nowhere"],
            "--plugins {folder}/nowhere: No such file",
        ),
        (["check", "{config}", "--plugins", "{config}"], "--plugins {config}: Not a directory"),
        (["serve", "--config", "{config}", "--state", "{folder}/damaged"], "{folder}/damaged/session.key: Is a dir"),
        (["demo", "--state", "{folder}/damaged"], "{folder}/damaged/demo.hujson: Is a directory"),
        (["check", "{folder}/pipe"], "{folder}/pipe: is no regular file"),
    ],
)
async def test_what_keeps_a_command_from_running_is_one_line_that_names_it(tmp_path, config, arguments, named):
    (tmp_path / "damaged/session.key").mkdir(parents=True)
    (tmp_path / "damaged/demo.hujson").mkdir()
    os.mkfifo(tmp_path / "pipe")
    names = {"config": config, "folder": tmp_path}
    status, out, err = await irisgate(tmp_path, *(argument.format(**names) for argument in arguments))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert named.format(**names) in err


@pytest.mark.parametrize(
    ("old", "python", "message"),
    [
        (False, "/nope", "run: PYTHON=/nope: there is no such program\n"),
        (True, "{bin}/python3", "run: PYTHON={bin}/python3: is not Python 3.11 or newer\n"),
        (False, "", "run: needs Python 3.11 or newer; there is no python3. Name one with PYTHON=/path/to/python\n"),
        (True, "", "run: needs Python 3.11 or newer; python3 is Python 3.9. Name one with PYTHON=/path/to/python\n"),
    ],
)
async def test_a_machine_without_a_fitting_python_is_told_so_in_one_line(tmp_path, old, python, message):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "dirname").symlink_to(shutil.which("dirname"))
    if old:
        (folder / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9" || exit 1\n')
        (folder / "python3").chmod(0o755)
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", str(ROOT / "deploy/run"), env={"PATH": str(folder), "PYTHON": python.format(bin=folder)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (2, f"{ROOT}/deploy/{message.format(bin=folder)}")


async def test_sessions_outlive_the_process(tmp_path, config):
    for calls in (1, 2):
        async with served(tmp_path, "serve", "--config", str(config)) as running:
            await running.chat()
            assert await running.end() == 0
        async with served(tmp_path, "serve", "--config", str(config)) as running:
            async with running.session.get(running.url + "/api/sessions") as reply:
                (session,) = (await reply.json())["sessions"]
            assert session["calls"] == calls, "the fingerprint's key is kept too"


async def test_a_single_file_is_a_plugin(tmp_path, openai_upstream, config):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    source = (ROOT / "plugins/gateway_plugins/openai_chat.py").read_text()
    (plugins / "my_chat.py").write_text(
        source.replace('"POST", "/v1/chat/completions", "', '"POST", "/mine", "')
        .replace('"/chat/completions"', '"/mine2"')
        .replace("model_lists = ", "_model_lists = ")
    )
    document = configuration(openai_upstream.url, compatibility={"my_chat": True})
    config.write_text(json.dumps(document))
    async with served(tmp_path, "serve", "--config", str(config), "--plugins", str(plugins)) as running:
        async with running.session.post(running.url + "/mine", json=CHAT) as reply:
            assert reply.status == 200
            assert b"simulated" in await reply.read()
        assert openai_upstream.requests[0].path == "/v1/chat/completions"


async def test_the_demo_tells_what_to_try_and_it_works(tmp_path):
    async with BedrockSim() as other:
        taken = int(other.url.rpartition(":")[2])
        async with served(
            tmp_path, "demo", "--listen", f"127.0.0.1:{taken}", AWS_BEARER_TOKEN_BEDROCK="real-canary"
        ) as running:
            assert running.url != f"http://127.0.0.1:{taken}", "the next free port when its own is taken"
            await running.line(r"^Pages: +http://127.0.0.1:\d+/ui/")
            text = "\n".join(running.lines)
            for sign in ("curl ", "CLAUDE_CODE_USE_BEDROCK=1", 'boto3.client("bedrock-runtime"', "openai.OpenAI("):
                assert sign in text
            status, body = await running.chat()
            assert (status, b"simulated" in body) == (200, True)
            async with running.session.get(running.url + "/ui/") as reply:
                assert HAIKU in await reply.text()
            assert "real-canary" not in "\n".join(running.lines), "a variable that happens to be set is not looked at"
            assert await running.end() == 0


async def test_the_real_bedrock_needs_its_two_variables(tmp_path):
    status, _, err = await irisgate(tmp_path, "demo", "--real", AWS_REGION="eu-west-1")
    assert (status, err) == (2, "irisgate demo --real: set AWS_BEARER_TOKEN_BEDROCK\n")
    status, _, err = await irisgate(tmp_path, "demo", "--real")
    assert (status, err) == (2, "irisgate demo --real: set AWS_BEARER_TOKEN_BEDROCK and AWS_REGION\n")
