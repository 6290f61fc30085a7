"""Tests of `irisgate explain`: its output and its exit status."""

import json

import pytest

from tests.helpers.processes import irisgate

CONFIG = """{
  "providers": {"bedrock": {"baseurl": "https://a.example", "apikey": "k", "models": ["claude-haiku"]}},
  "grants": [
    {"src": ["alice@example.com"], "app": {"tailscale.com/cap/aperture": [{"role": "user"},
      {"models": "bedrock/**"}]}},
  ],
}"""


async def explained(tmp_path, *arguments):
    (tmp_path / "config.hujson").write_text(CONFIG)
    return await irisgate(tmp_path, "explain", "--config", "config.hujson", *arguments)


async def test_the_command_says_why_somebody_may_use_a_model(tmp_path):
    status, out, _ = await explained(tmp_path, "--as", "alice@example.com", "--model", "claude-haiku")
    assert status == 0
    assert out.splitlines() == [
        'alice@example.com may use "claude-haiku":',
        '  role "user" by grants[0] (config.hujson:4:75)',
        '  provider "bedrock": models "bedrock/**" by grants[0] (config.hujson:5:7)',
        "Grants of the tailnet policy are known only when the caller connects; none is counted here.",
    ]


async def test_the_command_says_what_is_missing_and_exits_with_1(tmp_path):
    status, out, _ = await explained(tmp_path, "--as", "tag:api,tag:prod", "--model", "claude-haiku")
    assert status == 1
    lines = out.splitlines()
    assert lines[:3] == [
        'tag:api,tag:prod may not use "claude-haiku": no grant gives a role, and without one nothing works',
        "  no role",
        '  provider "bedrock": not granted',
    ]
    assert (
        '  {"src": ["tag:api,tag:prod"], "app": {"tailscale.com/cap/aperture": '
        '[{"role": "user"}, {"models": "bedrock/claude-haiku"}]}},' in lines
    )


async def test_the_command_prints_json_on_demand(tmp_path):
    status, out, _ = await explained(tmp_path, "--as", "bob@example.com", "--model", "claude-haiku", "--json")
    body = json.loads(out)
    assert (status, body["allowed"], body["reason"], body["near_misses"][0]["kind"]) == (1, False, "no_role", "other")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model", "m"),
        ("--as", "*", "--model", "m"),
        ("--as", "al"),
        ("--as", "al", "--model", "m", "--config", "gone"),
    ],
)
async def test_the_command_exits_with_2_for_what_cannot_be_asked(tmp_path, arguments):
    status, out, err = await explained(tmp_path, *arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err
