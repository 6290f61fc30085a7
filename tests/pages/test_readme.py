"""Tests of the README compared with the code: its configurations load and serve, and its outputs are the real ones."""

import json
import re
import shlex
from pathlib import Path

import pytest

from gateway.call.explain.explain import POLICY_UNKNOWN, explain, somebody
from gateway.call.explain.text import explanation_text
from gateway.call.runtime import runtime
from gateway.config.document.hujson import parse
from gateway.config.load import loads
from tests.helpers.gateway import KEY, gate
from tests.helpers.own_plugins import discover_own
from tests.helpers.tls import certified

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
OPERATION = (ROOT / "deploy" / "README.md").read_text()
REGISTRY = discover_own()
MAX_LINES = 180
"""Maximum number of lines of the README, which a newcomer must be able to read in one go."""

CONFIGURATIONS = [
    text
    for page in (README, OPERATION)
    for text in re.findall(r"^```jsonc\n(\{.*?^\})\n```$", page, re.MULTILINE | re.DOTALL)
]
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def test_the_readme_is_short_and_its_lines_too():
    lines = README.splitlines()
    assert len(lines) <= MAX_LINES
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_the_pages_show_configurations():
    assert len(CONFIGURATIONS) >= 3


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=range(1, len(CONFIGURATIONS) + 1))
def test_a_pages_configuration_loads_and_warns_only_of_omissions(text, tmp_path):
    """Check that a configuration in the README loads. A configuration without providers has one warning, which says so.
    The others have none.
    """
    (tmp_path / "bedrock.key").write_text("a key")
    (tmp_path / "bedrock.key").chmod(0o600)
    if '"tls"' in text:
        for made, name in zip(certified(tmp_path, "ai.example.ts.net"), ("ai.crt", "ai.key"), strict=True):
            made.rename(tmp_path / name)
    loaded = loads(text, plugins=REGISTRY.known, environ={}, folder=tmp_path)
    expected = [] if '"providers"' in text else ["no providers defined"]
    messages = [finding.message for finding in loaded.warnings]
    assert len(messages) == len(expected), messages
    assert all(message.startswith(start) for message, start in zip(messages, expected, strict=True)), messages


async def test_the_first_call_of_the_readme_and_a_second_person(tmp_path, bedrock_sim):
    """Check that the README's first call succeeds with the README's first configuration, also for a second person.

    In the test, the second person comes through a listener with a fixed login, because there is no tailnet.
    """
    document = parse(CONFIGURATIONS[0]).value
    provider = document["providers"]["bedrock"] | {"baseurl": bedrock_sim.url, "apikey": KEY}
    listeners = [
        {"listen": "127.0.0.1:0"},
        {"listen": "127.0.0.2:0", "identity": "static", "login": "alice@example.com"},
    ]
    (call,) = re.findall(r"^curl http://127.0.0.1:8080(/v1/\S+) .*?-d '(.*?)'$", README, re.MULTILINE | re.DOTALL)
    path, body = call[0], json.loads(call[1])
    async with gate(
        tmp_path,
        {"bedrock": provider},
        grants=document["grants"],
        server={"listeners": listeners},
        more={"model_aliases": document["model_aliases"]},
    ) as gw:
        assert (await gw.post(path, body)).status == 200
        async with gw.session.post(gw.running.urls[1] + path, json=body) as reply:
            assert reply.status == 200
        async with gw.session.get(gw.running.urls[1] + "/api/whoami") as reply:
            caller = await reply.json()
        assert (caller["login"], caller["role"]) == ("alice@example.com", "user")
        assert {record["identity"] for record in await gw.calls(2)} == {"(loopback)", "alice@example.com"}


def test_what_explain_is_shown_to_print_is_what_it_prints(tmp_path):
    (tmp_path / "bedrock.key").write_text("a key")
    loaded = loads(CONFIGURATIONS[0], plugins=REGISTRY.known, folder=tmp_path)
    command, *printed = re.findall(r"^\$ (irisgate explain .*)\n((?:.+\n)+?)```", OPERATION, re.MULTILINE)[0]
    words = shlex.split(command)
    who, model = words[words.index("--as") + 1], words[words.index("--model") + 1]
    lines = explanation_text(explain(runtime(loaded.config), somebody(who), model)).splitlines()
    assert [*lines, POLICY_UNKNOWN] == printed[0].splitlines()


def test_the_changelog_has_what_is_unreleased():
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text()
