"""Tests of model names that look like paths.

Only the authorised model and operation may be requested from the provider.
"""

import json
from urllib.parse import quote

import pytest

from gateway.contract.capabilities import base_id
from gateway.testkit.openai import OpenAISim
from tests.helpers.gateway import CAP, HAIKU, KEY, SONNET, bedrock, gate
from tests.helpers.hostile_http import CHAT, CLAUDE, CONVERSE, MESSAGES, connected, crashes, post

GRANTS = [{"src": ["*"], "app": {CAP: [{"role": "user"}, {"models": f"b/{HAIKU}"}, {"models": "o/m"}]}}]
COUNT = {"input": {"converse": CONVERSE}}
OPERATIONS = {
    "converse": CONVERSE,
    "converse-stream": CONVERSE,
    "invoke": CLAUDE,
    "invoke-with-response-stream": CLAUDE,
    "count-tokens": COUNT,
}
WIDE = "".join(chr(ord(character) + 0xFEE0) if character.isalpha() else character for character in HAIKU)
HONEST = [HAIKU, quote(HAIKU, safe=""), HAIKU.replace("u", "%75"), f"b/{HAIKU}", f"b%2F{HAIKU}", f"%62/{HAIKU}"]
"""Spellings of the granted model's name, all of which must work."""
HOSTILE = [
    SONNET,
    f"b/{SONNET}",
    f"b%2F{SONNET}",
    f"b//{HAIKU}",
    f"b/b/{HAIKU}",
    f"o/{HAIKU}",
    f"b%252F{HAIKU}",
    f"{HAIKU}/../{SONNET}",
    f"{HAIKU}%2F..%2F{SONNET}",
    f"{HAIKU}%2f..%2f{SONNET}",
    f"{HAIKU}%252F..%252F{SONNET}",
    f"{HAIKU}%2F%2E%2E%2F{SONNET}",
    f"{HAIKU}/%2e%2e/{SONNET}",
    f"{HAIKU}/..%2F..%2Fmodel%2F{SONNET}",
    f"../model/{SONNET}",
    f"../{HAIKU}",
    f"./{HAIKU}",
    f"{HAIKU}/.",
    f"{HAIKU}/",
    f"/{HAIKU}",
    f"{HAIKU}//",
    f"{HAIKU};x=1",
    f"{HAIKU};/../{SONNET}",
    f"{HAIKU}\\..\\{SONNET}",
    f"{HAIKU}%5C..%5C{SONNET}",
    f"{HAIKU}%00",
    f"{HAIKU}%00/../{SONNET}",
    f"{HAIKU}%0d%0aX-Evil:%201",
    f"{HAIKU}%c0%af..%c0%af{SONNET}",
    f"{HAIKU}%ff",
    f"{HAIKU}%ef%bb%bf",
    f"{HAIKU}%e2%80%8b",
    f"{HAIKU}%20",
    f"%20{HAIKU}",
    f"{HAIKU}%09",
    f"{HAIKU}+",
    f"{HAIKU}.",
    HAIKU.upper(),
    quote(WIDE),
    f"{HAIKU}%",
    f"{HAIKU}%2",
    f"{HAIKU}%3Fx",
    f"{HAIKU}%23x",
    f"{HAIKU}/converse/../invoke",
    f"{HAIKU}/invoke",
    f"{HAIKU}%2Fconverse",
    f"{HAIKU}/converse%2F..",
    f"{HAIKU}@evil.example",
    f"http:%2F%2Fevil.example%2F{HAIKU}",
    "..",
    ".",
    "%2e%2e",
    "*",
    "b/*",
]


@pytest.fixture
async def gated(tmp_path, bedrock_sim):
    async with OpenAISim(keys={KEY}) as chats:
        others = {"baseurl": chats.url, "apikey": KEY, "models": ["m", "n"]}
        providers = {"b": bedrock(bedrock_sim.url, models=(HAIKU, SONNET)), "o": others}
        async with gate(tmp_path, providers, grants=GRANTS) as running:
            running.chats = chats
            yield running


async def answered(gated, path, body):
    """Return the status of the reply.

    A connection that is closed because of an invalid request target counts as 400.
    """
    raw = await connected(gated)
    raw.writer.write(post(path, body))
    status, _, answer = await raw.reply()
    await raw.close()
    return status, answer


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_only_the_granted_model_and_own_operation_are_sent(gated, bedrock_sim, operation):
    """Check that only the granted model is ever requested upstream, and only by the operation of the route."""
    # CountTokens knows no inference profiles, so it gets the name of the model itself
    model = base_id(HAIKU) if operation == "count-tokens" else HAIKU
    path = f"/model/{quote(model, safe='')}/{operation}"
    for prefix in ("", "/bedrock"):
        for name in HONEST:
            status, _ = await answered(gated, f"{prefix}/model/{name}/{operation}", OPERATIONS[operation])
            assert status == 200, name
        for name in HOSTILE:
            status, body = await answered(gated, f"{prefix}/model/{name}/{operation}", OPERATIONS[operation])
            assert 400 <= status < 500, (name, status, body)
    assert [seen.path for seen in bedrock_sim.requests] == [path] * 2 * len(HONEST)
    assert crashes(gated) == []


async def test_what_stands_behind_a_path_does_not_choose_the_operation(gated, bedrock_sim):
    """Check that a fragment or a query after the path does not change the operation."""
    for behind in ("#/converse-stream", "#/../converse-stream", "?/converse-stream", "?a=/converse-stream#b"):
        await answered(gated, f"/bedrock/model/{HAIKU}/converse{behind}", CONVERSE)
    assert {(seen.path, seen.query) for seen in bedrock_sim.requests} == {
        (f"/model/{quote(HAIKU, safe='')}/converse", "")
    }


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGES)])
async def test_a_name_in_a_body_means_what_it_says_and_nothing_is_decoded_in_it(gated, bedrock_sim, path, body):
    for name in (HAIKU, f"b/{HAIKU}"):
        assert (await answered(gated, path, {**body, "model": name}))[0] == 200
    names = [*HOSTILE, *HONEST, WIDE, f"{HAIKU}\0", f"{HAIKU}\r\nX-Evil: 1", f"{HAIKU}\u2028", f"{HAIKU} ", "\ud800"]
    for name in {*names} - {HAIKU, f"b/{HAIKU}"}:
        status, answer = await answered(gated, path, {**body, "model": name})
        assert status in {400, 404}, (name, status, answer)
    assert {seen.path.rpartition("/")[0] for seen in bedrock_sim.requests} == {f"/model/{quote(HAIKU, safe='')}"}
    assert len(bedrock_sim.requests) == 2
    assert crashes(gated) == []


async def test_the_name_in_a_forwarded_body_is_the_one_that_was_authorised(gated):
    for name in ("m", "o/m"):
        assert (await answered(gated, "/v1/chat/completions", {**CHAT, "model": name}))[0] == 200
    for name in ("n", "o/n", "o/m/../n", "o/m/", "O/m", "o/m\0", "o//m", "b/m"):
        assert (await answered(gated, "/v1/chat/completions", {**CHAT, "model": name}))[0] in {400, 404}
    assert [(seen.path, seen.json["model"]) for seen in gated.chats.requests] == [("/v1/chat/completions", "m")] * 2


@pytest.mark.parametrize(
    ("path", "body"), [(f"/bedrock/model/{HAIKU}/converse", CONVERSE), (f"/bedrock/model/{HAIKU}/invoke", CLAUDE)]
)
async def test_a_model_in_the_body_does_not_stand_for_the_one_in_the_path(gated, bedrock_sim, path, body):
    for member in ("model", "modelId", "model_id", "Model"):
        await answered(gated, path, {**body, member: SONNET})
    assert {seen.path.rpartition("/")[0] for seen in bedrock_sim.requests} == {f"/model/{quote(HAIKU, safe='')}"}
    assert {record["model"] for record in await gated.calls(4)} == {HAIKU}


async def test_lists_show_no_more_of_a_name_that_is_spelled_otherwise(gated):
    for name in HOSTILE:
        for path in ("/v1/models/", "/bedrock/inference-profiles/"):
            raw = await connected(gated)
            status, _, body = await raw.ask(path + name)
            await raw.close()
            if status == 200:
                data = json.loads(body)
                assert data.get("id", data.get("inferenceProfileId")) == HAIKU, (path, name)
            else:
                assert 400 <= status < 500, (path, name)
