"""Tests that follow `plugins/README.md` step by step: its commands, its code and its configuration, unchanged."""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from textwrap import indent

import pytest

from gateway.config.document.hujson import parse
from gateway.config.load import loads
from gateway.contract.registry import discover
from gateway.process.command_line import main
from tests.helpers.gateway import gate
from tests.helpers.source_tree import ROOT

PAGE = (ROOT / "plugins" / "README.md").read_text()
NAME = "word_guard"
MAKE, CHECK, USE, PUBLISH = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(CODE,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(CONFIGURATION,) = re.findall(r"^```jsonc\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LONGEST_PAGE = 120


def commands(block, program):
    """Return the arguments of each call of `program` in a block of shell commands."""
    lines = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    return [words[1:] for words in lines if words[:1] == [program]]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make the package that the page describes, and change the working directory to its folder. Return the folder."""
    monkeypatch.chdir(tmp_path)
    (new,) = commands(MAKE, "irisgate")
    assert main(new) == 0
    (folder,) = commands(MAKE, "cd")[0]
    monkeypatch.chdir(folder)
    return tmp_path / folder


def python(folder, *arguments):
    ended = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, check=False, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_it_is_one_page():
    assert len(PAGE.splitlines()) <= LONGEST_PAGE


def test_the_code_of_the_page_is_that_of_the_new_package(package):
    methods = indent(CODE, "    ").replace("\n\n\n", "\n\n")
    assert methods in (package / f"{NAME}.py").read_text()


def test_the_tests_and_the_check_of_the_page_pass(package, capsys):
    assert commands(MAKE, "pytest") == [[]]
    assert "3 passed" in python(package, "pytest", "-q", "-p", "no:cacheprovider")
    capsys.readouterr()
    (check,) = commands(CHECK, "irisgate")
    assert main(check) == 0
    assert ", 0 broken, 0 not tried\n" in capsys.readouterr().out


def test_the_configuration_of_the_page_switches_the_filter_on(package, monkeypatch, capsys):
    loaded = loads(CONFIGURATION, plugins=discover(package).known, environ={"OPENAI_API_KEY": "k"})
    assert loaded.warnings == ()
    (package / "config.hujson").write_text(CONFIGURATION)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    listing, serving = commands(USE, "irisgate")
    assert main([*listing, "--plugins", "."]) == 0
    assert NAME in capsys.readouterr().out
    assert serving == ["serve", "--config", "config.hujson"]


async def test_the_call_of_the_page_is_refused(package, tmp_path):
    document = parse(CONFIGURATION).value
    provider = {**document["providers"]["openai"], "apikey": "k"}
    (words,) = commands(USE, "curl")
    url, _, body = words
    more = {"plugins": document["plugins"]}
    async with gate(tmp_path, {"openai": provider}, plugins=package, more=more) as gw:
        reply = await gw.post(url.removeprefix("http://127.0.0.1:8080"), json.loads(body))
    assert (reply.status, "forbidden_word" in reply.body.decode()) == (403, True)


def test_the_package_of_the_page_can_be_built(package):
    """Check that a wheel with the module and the entry point can be built. The installed build tools are used."""
    assert commands(PUBLISH, "python") == [["-m", "build"]]
    python(package, "build", "--no-isolation")
    (wheel,) = (package / "dist").glob("irisgate_word_guard-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entries,) = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    assert f"{NAME}.py" in names
    assert entries.split() == ["[irisgate.filters]", NAME, "=", NAME]
