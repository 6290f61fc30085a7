"""Tests of three plugins that follow `plugins/guide.md`. Each passes `irisgate plugins check` and works in a gateway.

The plugins are in `tests/helpers/authors_walk/`. They use the contract, the command line and the fixtures of pytest as
the guide describes. So a change that breaks one of them would also break plugins of other authors.
"""

# ruff: noqa: F811 (tests take the imported fixtures as arguments)

import json
import re

import pytest

from gateway.process.command_line import main
from gateway.pytest_plugin import irisgate_check, irisgate_gateway, irisgate_upstream  # noqa: F401 (fixtures of this module)
from gateway.testkit.scenarios import Raw, Scenario, raw, text
from tests.helpers.source_tree import ROOT

PLUGINS = ROOT / "tests/helpers/authors_walk"
NAMES = ("iban_guard", "minute_cap", "tiny")
CHAT = "/v1/chat/completions"
IBAN = "DE89 3704 0044 0532 0130 00"
STREAM = b'{"piece": "Hel"}\n{"piece": "lo"}\n{"end": "stop", "in": 3, "out": 5}\n'
WHOLE = b'{"text": "Hello", "end": "stop", "in": 3, "out": 5}'
NDJSON = "application/x-ndjson"


def chat(prompt, stream=False):
    return {"model": "m", "stream": stream, "messages": [{"role": "user", "content": prompt}]}


def config(upstream, flag="openai_chat", **plugins):
    provider = {"baseurl": upstream.url, "apikey": "k", "models": ["m"], "compatibility": {flag: True}}
    return {"providers": {"p": provider}, "plugins": plugins}


@pytest.mark.parametrize("name", NAMES)
def test_the_laws_hold_by_the_command_and_by_the_fixture(name, irisgate_check, capsys):
    assert main(["plugins", "check", name, "--plugins", str(PLUGINS)]) == 0
    printed = capsys.readouterr().out
    assert ", 0 broken, 0 not tried\n" in printed
    assert str(irisgate_check(name, PLUGINS)).strip() == printed.strip()


async def test_an_iban_in_a_prompt_is_blocked(irisgate_gateway, irisgate_upstream):
    async with (
        irisgate_upstream("openai") as upstream,
        irisgate_gateway(config(upstream, iban_guard={}), PLUGINS) as gateway,
    ):
        for iban in (IBAN, IBAN.replace(" ", "")):
            reply = await gateway.post(CHAT, chat(f"pay to {iban}"))
            assert (reply.status, "the prompt has an IBAN (DE89…00)" in reply.body.decode()) == (403, True)
        assert upstream.requests == []


async def test_an_iban_in_a_reply_is_masked(irisgate_gateway, irisgate_upstream):
    async with (
        irisgate_upstream("openai") as upstream,
        irisgate_gateway(config(upstream, iban_guard={}), PLUGINS) as gateway,
    ):
        upstream.script(text("pay to DE89 3704 00", "44 0532 01", "30 00 today"), text(IBAN))
        streamed = await gateway.post(CHAT, chat("hi", stream=True))
        chunks = [json.loads(data) for data in re.findall("^data: ({.*)$", streamed.body.decode(), re.MULTILINE)]
        deltas = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
        assert "".join(deltas) == "pay to [IBAN] today"
        whole = await (await gateway.post(CHAT, chat("hi"))).json()
        assert whole["choices"][0]["message"]["content"] == "[IBAN]"


async def test_the_countries_are_a_setting(irisgate_gateway, irisgate_upstream):
    async with (
        irisgate_upstream("openai") as upstream,
        irisgate_gateway(config(upstream, iban_guard={"countries": ["NL"]}), PLUGINS) as gateway,
    ):
        replies = [await gateway.post(CHAT, chat(prompt)) for prompt in (IBAN, "NL91 ABNA 0417 1643 00")]
        assert [reply.status for reply in replies] == [200, 403]


WRONG_SETTINGS = {
    # (the plugin, its settings, what follows file, line and column)
    "an unknown country": ("iban_guard", '{"countries": ["DE", "XX"]}', '.countries[1]: "XX" is none of AT, '),
    "no call at all": ("minute_cap", '{"calls": 0}', ".calls: must be at least 1"),
    "no number of calls": ("minute_cap", "{}", ".calls"),
}


@pytest.mark.parametrize(("plugin", "settings", "message"), WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_a_wrong_setting_is_told_with_its_place(tmp_path, capsys, plugin, settings, message):
    (tmp_path / "wrong.json").write_text(f'{{"providers": {{}},\n "plugins": {{"{plugin}": {settings}}}}}')
    assert main(["check", "--plugins", str(PLUGINS), str(tmp_path / "wrong.json")]) == 2
    assert re.search(rf"wrong\.json:2:\d+: plugins\.{plugin}{re.escape(message)}", capsys.readouterr().err)


async def test_a_cap_says_when_to_try_again(irisgate_gateway, irisgate_upstream):
    async with (
        irisgate_upstream("openai") as upstream,
        irisgate_gateway(config(upstream, minute_cap={"calls": 2}), PLUGINS) as gateway,
    ):
        replies = [await gateway.post(CHAT, chat("hi")) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        message = (await replies[2].json())["error"]["message"]
        wait = re.fullmatch("you have 2 calls a minute; try again in ([0-9]+) seconds", message)
        assert wait is not None
        assert replies[2].headers["retry-after"] == wait[1]
        assert len(upstream.requests) == 2


async def test_a_format_of_lines_is_served(irisgate_gateway, irisgate_upstream):
    async with (
        irisgate_upstream("raw", keys={"k"}) as upstream,
        irisgate_gateway(config(upstream, "tiny"), PLUGINS) as gateway,
    ):
        upstream.script(Scenario(raw=Raw(STREAM, content_type=NDJSON), split=5), raw(WHOLE))
        for stream, body, content_type in ((True, STREAM, NDJSON), (False, WHOLE, "application/json")):
            reply = await gateway.post("/tiny/v1/say", {"model": "m", "say": "hi", "stream": stream})
            assert (reply.status, reply.body, reply.headers["content-type"]) == (200, body, content_type)
        tokens = [record["tokens"] for record in await gateway.calls(2)]
        assert [(each["input"], each["output"]) for each in tokens] == [(3, 5)] * 2
        assert [seen.path for seen in upstream.requests] == ["/tiny/v1/say"] * 2


async def test_a_filter_reads_a_format_of_lines(irisgate_gateway, irisgate_upstream):
    async with (
        irisgate_upstream("raw") as upstream,
        irisgate_gateway(config(upstream, "tiny", iban_guard={}), PLUGINS) as gateway,
    ):
        split = STREAM.replace(b"Hel", IBAN[:9].encode()).replace(b"lo", IBAN[9:].encode() + b" now")
        upstream.script(raw(split, content_type=NDJSON))
        reply = await gateway.post("/tiny/v1/say", {"model": "m", "say": "hi", "stream": True})
        assert "".join(json.loads(line).get("piece", "") for line in reply.body.splitlines()) == "[IBAN] now"
        reply = await gateway.post("/tiny/v1/say", {"model": "m", "say": IBAN})
        assert (reply.status, [*json.loads(reply.body)]) == (403, ["error"])


async def test_a_provider_of_raw_replies_says_what_it_lacks(irisgate_gateway, irisgate_upstream):
    async with (
        irisgate_upstream("raw", keys={"other"}) as strict,
        irisgate_upstream("raw") as silent,
        irisgate_gateway(config(strict, "tiny"), PLUGINS) as refused,
        irisgate_gateway(config(silent, "tiny"), PLUGINS) as unanswered,
    ):
        for gateway, upstream in ((refused, strict), (unanswered, silent)):
            assert (await gateway.post("/tiny/v1/say", {"model": "m", "say": "hi"})).status >= 400
            assert upstream.requests[0].refused
        assert "no header has a key" in strict.requests[0].refused
        assert "write upstream.script(scenarios.raw(…))" in silent.requests[0].refused
