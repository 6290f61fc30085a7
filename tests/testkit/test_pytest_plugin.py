"""Tests of the pytest plugin for authors of plugins.

Each test runs pytest with xdist in another process, as an author does.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "plugins/guide.md").read_text(), re.MULTILINE | re.DOTALL)
FLAG, TEST = BLOCKS[0], BLOCKS[-1]
SUITE = """
import asyncio
import json
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent / "plugins"


def test_a_call_through_a_gateway_to_a_simulated_provider(irisgate_gateway, irisgate_upstream):
    async def call():
        async with irisgate_upstream("openai", keys={"k"}) as upstream:
            provider = {"baseurl": upstream.url, "apikey": "k", "models": ["m"], "compatibility": {"openai_chat": True}}
            async with irisgate_gateway({"providers": {"mine": provider}}, PLUGINS) as gateway:
                request = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
                reply = await gateway.post("/v1/chat/completions", request)
                assert reply.status == 200, reply.body
                assert upstream.requests[0].json["model"] == "m"
                (record,) = await gateway.calls()
                assert (record["outcome"], record["model"]) == ("ok", "m")

    asyncio.run(call())


def test_an_unknown_provider_is_told(irisgate_upstream):
    with pytest.raises(ValueError, match='no simulated provider "nope"; there are anthropic, bedrock, gemini, openai, raw'):
        irisgate_upstream("nope")


def test_chunkings_are_the_stream(irisgate_chunkings):
    assert [b"".join(chunks) for chunks in irisgate_chunkings(b"abcdefgh")] == [b"abcdefgh"] * 5


def test_the_laws_hold(irisgate_check):
    assert irisgate_check("acme_text", PLUGINS).holds


def test_a_broken_law_fails(irisgate_check):
    with pytest.raises(pytest.fail.Exception, match="BROKEN   the tokens of a stream are reported"):
        irisgate_check("acme_free", PLUGINS.parent / "broken")


def test_golden(irisgate_golden):
    irisgate_golden(PLUGINS.parent / "golden/a.json", {"id": "chatcmpl-0123456789abcdefgh", "created": 1795435200})
"""
UNUSED = """
import sys


def test_nothing_of_the_gateway_is_imported():
    heavy = ("aiohttp", "pydantic", "msgspec", "orjson", "structlog")
    assert [name for name in sys.modules if name.partition(".")[0] in heavy] == []
    ours = [name for name in sys.modules if name.partition(".")[0].startswith("gateway")]
    assert sorted(ours) == ["gateway", "gateway.pytest_plugin"]
"""


@pytest.fixture
def suite(tmp_path):
    """Return the folder of a test suite of another author."""
    for name, source in {
        "plugins/acme_text.py": FLAG,
        "broken/acme_free.py": FLAG.replace("reported = True", "reported = False"),
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(source.replace("acme_text", Path(name).stem))
    (tmp_path / "plugins/guard.py").write_text((ROOT / "plugins/examples/guard.py").read_text())
    (tmp_path / "test_mine.py").write_text(SUITE)
    (tmp_path / "test_page.py").write_text(TEST)
    (tmp_path / "test_unused.py").write_text(UNUSED)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config\n"
    )
    return tmp_path


def run(folder, *options):
    """Run pytest in `folder` with the gateway's pytest plugin and xdist, and with no other installed plugin. Return the
    status and the output.
    """
    variables = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    plugins = ["-p", "gateway.pytest_plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *options]
    ended = subprocess.run(command, cwd=folder, env=variables, check=False, capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stdout + ended.stderr


def test_the_fixtures_work_with_several_processes(suite):
    status, out = run(suite, "-p", "xdist.plugin", "-n", "2", "--irisgate-rewrite-golden", "test_mine.py")
    assert (status, "6 passed" in out) == (0, True), out
    assert (suite / "golden/a.json").read_text() == '{\n "id": "chatcmpl-made-1",\n "created": 0\n}\n'


def test_a_suite_that_does_not_use_the_plugin_imports_nothing(suite):
    status, out = run(suite, "test_unused.py")
    assert (status, "1 passed" in out) == (0, True), out


def test_a_golden_file_that_differs_or_is_missing_is_told(suite):
    status, out = run(suite, "-k", "test_golden", "test_mine.py")
    assert status == 1
    assert "a.json is missing; write it with --irisgate-rewrite-golden" in out
    (suite / "golden").mkdir()
    (suite / "golden/a.json").write_text('{\n "id": "chatcmpl-made-1",\n "created": 7\n}\n')
    status, out = run(suite, "-k", "test_golden", "test_mine.py")
    assert status == 1
    assert '- "created": 7' in out
    assert '+ "created": 0' in out


def test_the_test_of_the_page_passes(suite):
    scope = "asyncio_default_fixture_loop_scope=function"
    status, out = run(suite, "-p", "pytest_asyncio.plugin", "-o", scope, "test_page.py")
    assert (status, "1 passed" in out) == (0, True), out


def test_every_fixture_and_option_has_the_prefix(suite):
    _, out = run(suite, "--fixtures", "test_unused.py")
    names = re.findall(r"^(\w+) -- .*pytest_plugin", out, re.MULTILINE)
    assert sorted(names) == [
        "irisgate_check",
        "irisgate_chunkings",
        "irisgate_gateway",
        "irisgate_golden",
        "irisgate_upstream",
    ]
