"""Tests of the release as operators install it: a wheel in a new environment, outside the checkout.

All other tests run on the sources, so they do not notice a file that is missing in the wheel. The environment's other
packages come from the registry, in the versions of the lock file.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from botocore.eventstream import EventStreamBuffer

from gateway.process.new_plugin import KINDS
from tests.helpers.acme_api import acme_api
from tests.helpers.gateway import EVERYTHING, HAIKU, KEY
from tests.helpers.processes import running
from tests.tools.outer_package import GENERATED, PLUGINS, write_project

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "tests/locks/development.txt"
BUILD_SECONDS = 300
INSTALL_SECONDS = 300
"""Maximum number of seconds to install about 30 packages from a registry."""
COMMAND_SECONDS = 120
TEXT = "hello"
MESSAGES = [{"role": "user", "content": TEXT}]
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": MESSAGES}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": TEXT}]}]}
CALLS = {
    "/v1/chat/completions": {"model": HAIKU, "messages": MESSAGES},
    "/v1/responses": {"model": HAIKU, "input": TEXT},
    "/v1/messages": {"model": HAIKU, "max_tokens": 50, "messages": MESSAGES},
    f"/bedrock/model/{HAIKU}/invoke": CLAUDE,
    f"/bedrock/model/{HAIKU}/converse": CONVERSE,
}
STREAMED = {
    "/v1/chat/completions": {"model": HAIKU, "messages": MESSAGES, "stream": True},
    "/v1/responses": {"model": HAIKU, "input": TEXT, "stream": True},
    "/v1/messages": {"model": HAIKU, "max_tokens": 50, "messages": MESSAGES, "stream": True},
    f"/bedrock/model/{HAIKU}/invoke-with-response-stream": CLAUDE,
    f"/bedrock/model/{HAIKU}/converse-stream": CONVERSE,
}


def kinds(stream):
    """Return the types of an event stream's messages, read by botocore."""
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    return [event.headers[":event-type"] for event in buffer]


ENDS = {
    "completions": lambda stream: stream.endswith(b"data: [DONE]\n\n"),
    "responses": lambda stream: b"event: response.completed\n" in stream,
    "messages": lambda stream: b"event: message_stop\n" in stream,
    "invoke-with-response-stream": lambda stream: set(kinds(stream)) == {"chunk"},
    "converse-stream": lambda stream: kinds(stream)[-2:] == ["messageStop", "metadata"],
}
"""Functions that tell whether the bytes of a stream are complete. The key is the last segment of the request's path."""
LAW_TEST = """
import pytest


@pytest.mark.parametrize("name", %r)
def test_the_laws_hold(irisgate_check, name):
    assert irisgate_check(name).holds
"""


def run(*command, seconds=COMMAND_SECONDS, **options):
    """Run a program, and return its status, standard output and standard error."""
    ended = subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, timeout=seconds, **options
    )
    return ended.returncode, ended.stdout, ended.stderr


def done(*command, **options):
    status, out, err = run(*command, **options)
    assert status == 0, out + err
    return out


def files(wheel):
    """Return a dict from the name of each file in a wheel to its content. The wheel's metadata (`.dist-info`) is left
    out.
    """
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return a copy of the sources, because a build writes folders beside its sources."""
    copy = tmp_path_factory.mktemp("a copy") / "irisgate"
    copy.mkdir()
    for entry in ROOT.iterdir():
        if entry.is_file() and not entry.name.startswith("."):
            shutil.copy(entry, copy)
    for folder in ("gateway", "plugins"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=GENERATED)
    return copy


def built(sources, *options):
    """Build a wheel from the source distribution, or directly from the sources with the option `--wheel`. Return its
    path.
    """
    building = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", sources / "dist", sources]
    done(*building, seconds=BUILD_SECONDS)
    (wheel,) = (sources / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(sources):
    return built(sources)


class Installed:
    """The wheel, installed in an environment of its own."""

    def __init__(self, folder, wheel):
        self.folder = folder
        venv.create(folder / "environment")
        self.bin = folder / "environment/bin"
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "XDG_", "PYTHON"))
        }
        variables |= {"HOME": str(folder), "PYTHONUNBUFFERED": "1"}
        self.options = {"cwd": folder, "env": variables}
        self.add(wheel)

    def add(self, *what):
        self._pip("install", "--no-compile", "--constraint", LOCK, *what)

    def remove(self, name):
        self._pip("uninstall", "--yes", name)

    def _pip(self, command, *arguments):
        """Run pip for the environment, which has no pip of its own."""
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python", "--disable-pip-version-check"]
        done(*pip, command, "--quiet", *arguments, seconds=INSTALL_SECONDS, **self.options)

    def irisgate(self, *arguments):
        return run(self.bin / "irisgate", *arguments, **self.options)

    def running(self, *arguments, **more):
        return running(self.bin / "irisgate", *arguments, **self.options, **more)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("far from it"), wheel)


@pytest.fixture
def testkit(installed, wheel):
    """Yield the environment with the additional packages of the testkit. At the end, remove botocore, which a gateway
    does not need.
    """
    installed.add(f"{wheel}[testkit]")
    yield installed
    installed.remove("botocore")


@pytest.fixture(scope="module")
def zenith(installed, tmp_path_factory):
    """Install pytest and another author's package of plugins in the environment, and return it.

    They stay installed, so only the last tests of this file use this fixture.
    """
    installed.add(built(write_project(tmp_path_factory.mktemp("zenith") / "zenith"), "--wheel"), "pytest")
    return installed


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(sources, wheel):
    wanted = {}
    for root in (sources / "gateway", sources / "plugins/gateway_plugins"):
        within = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        wanted |= {str(path.relative_to(root.parent)): path.read_bytes() for path in within}
    assert len(wanted) > 100
    packed = files(wheel)
    assert sorted(packed) == sorted(wanted)
    assert packed == wanted


def test_the_commands_that_need_no_server(installed, wheel):
    version = wheel.name.split("-")[1]
    assert installed.irisgate("--version") == (0, f"irisgate {version}\n", "")
    _, minimal, _ = installed.irisgate("serve")
    config = installed.folder / "minimal.hujson"
    config.write_text(minimal.replace("<your-bedrock-api-key>", "a-key"))
    assert installed.irisgate("check", config) == (0, f"{config}: 1 providers, 4 models, 0 warnings\n", "")
    status, schema, _ = installed.irisgate("schema")
    assert (status, "providers" in json.loads(schema)["properties"]) == (0, True)


def test_the_demo_says_what_it_lacks(installed):
    needed = "irisgate demo: needs botocore's model of Bedrock: pip install 'irisgate[testkit]'\n"
    assert installed.irisgate("demo", "--listen", "127.0.0.1:0") == (2, "", needed)


async def test_the_demo_answers_in_every_dialect_and_shows_its_pages(testkit):
    async with testkit.running("demo", "--listen", "127.0.0.1:0") as demo:
        for path, body in CALLS.items():
            async with demo.session.post(demo.url + path, json=body) as reply:
                assert (reply.status, "simulated" in await reply.text()) == (200, True), path
        for path, body in STREAMED.items():
            async with demo.session.post(demo.url + path, json=body) as reply:
                assert reply.status == 200, path
                assert ENDS[path.rpartition("/")[2]](await reply.read()), path
        async with demo.session.get(demo.url + "/ui/") as page:
            assert (page.status, HAIKU in await page.text()) == (200, True)
        assert await demo.end() == 0


def test_the_plugins_of_another_package_pass_the_check(zenith, tmp_path):
    for name in PLUGINS:
        status, report, err = zenith.irisgate("plugins", "check", name)
        assert (status, "BROKEN" in report) == (0, False), report + err
    (tmp_path / "test_laws.py").write_text(LAW_TEST % (PLUGINS,))
    assert "4 passed" in done(zenith.bin / "python", "-m", "pytest", "-q", tmp_path / "test_laws.py", **zenith.options)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tests_of_a_new_package_pass_with_the_laws(zenith, tmp_path, kind):
    folder = tmp_path / kind
    status, _, err = zenith.irisgate("plugins", "new", f"my_{kind}", "--kind", kind, "--folder", folder)
    assert status == 0, err
    printed = done(zenith.bin / "python", "-m", "pytest", "-v", folder, **zenith.options)
    assert "test_the_laws_hold PASSED" in printed


async def test_the_plugins_of_another_package_serve_a_call(zenith, tmp_path):
    """Check that a call succeeds through the flag, the translator, the filter and the observer of one installed
    package.
    """
    _, listed, _ = zenith.irisgate("plugins", "list")
    assert "POST /zenith_text/v1/text" in next(line for line in listed.splitlines() if line.startswith("zenith_text "))
    async with acme_api() as url:
        provider = {"baseurl": url, "apikey": KEY, "models": ["m"], "compatibility": {"zenith_text": True}}
        plugins = {"zenith_guard": {"word": "Hello"}}
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"providers": {"zenith": provider}, "grants": EVERYTHING, "plugins": plugins}))
        command = "serve", "--config", config, "--listen", "127.0.0.1:0"
        async with zenith.running(*command, stderr=subprocess.STDOUT) as served:
            for path, body in {
                "/zenith_text/v1/text": {"model": "m", "prompt": "hi"},
                "/v1/chat/completions": {"model": "m", "messages": MESSAGES},
            }.items():
                for stream in (False, True):
                    async with served.session.post(served.url + path, json=body | {"stream": stream}) as reply:
                        text = await reply.text()
                        assert (reply.status, "***" in text, "Hello" in text) == (200, True, False), (path, text)
            refused = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
            async with served.session.post(served.url + "/v1/chat/completions", json=refused) as reply:
                assert (reply.status, "not allowed" in await reply.text()) == (403, True)
            assert await served.end() == 0
        assert sum(bool(re.search(r"^\S+ m (unknown cost|0.0 USD)$", line)) for line in served.lines) == 5
