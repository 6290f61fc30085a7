"""Tests of the cache breakpoints of OpenAI's parts (`prompt_cache_breakpoint`) on the conversions from Chat and Responses.

Source: OpenAI's API reference (prompt caching of GPT-5.6 and later) and the openai SDK's types.
"""

import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import Refused
from tests.helpers.conversion import CLAUDE, CONVERSIONS
from tests.helpers.samples import PDF, PNG

NAME = "prompt_cache_breakpoint"
MARK = {NAME: {"mode": "explicit"}}
CLIENTS = ("openai_chat", "openai_responses")
CLAUDES = ("anthropic_messages", "bedrock_model_invoke", "bedrock_converse")
clients = pytest.mark.parametrize("client", CLIENTS)
providers = pytest.mark.parametrize("provider", CLAUDES)


def text(value, client, **more):
    return {"type": "text" if client == "openai_chat" else "input_text", "text": value, **more}


def image(client, **more):
    url = f"data:image/png;base64,{PNG}"
    if client == "openai_chat":
        return {"type": "image_url", "image_url": {"url": url}, **more}
    return {"type": "input_image", "image_url": url, **more}


def file(client, **more):
    given = {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
    return (
        {"type": "file", "file": given, **more} if client == "openai_chat" else {"type": "input_file", **given, **more}
    )


def called(client, provider, *parts, system=(), **caps):
    """Convert a request whose user message has the parts `parts`. Return the converted call."""
    messages = [{"role": "system", "content": list(system)}] if system else []
    body = {"messages" if client == "openai_chat" else "input": [*messages, {"role": "user", "content": list(parts)}]}
    return CONVERSIONS[f"{client}__{provider}"].call(body, caps=capabilities(CLAUDE, {"cache_ttl": True, **caps}))


def marked(blocks):
    """Return the lifetime of each cache breakpoint, by the index of the block that it follows. Converse's cache points
    are not counted as blocks.
    """
    marks, number = {}, 0
    for block in blocks:
        if "cachePoint" in block:
            marks[number - 1] = block["cachePoint"].get("ttl", "")
            continue
        if "cache_control" in block:
            marks[number] = block["cache_control"].get("ttl", "")
        number += 1
    return marks


@providers
@clients
def test_a_breakpoint_on_any_part_is_carried(client, provider):
    parts = [text("a", client, **MARK), image(client), file(client, **MARK), text("b", client)]
    passed = called(client, provider, *parts, system=[text("S", client, **MARK)])
    assert marked(passed.sent["system"]) == {0: ""}
    assert marked(passed.sent["messages"][0]["content"]) == {0: "", 2: ""}
    assert not passed.fault
    assert passed.dropped == []


@providers
@clients
@pytest.mark.parametrize(("ttl", "lost"), [("30m", []), ("12h", ["ttl"])])
def test_a_longer_lifetime_is_an_hour(client, provider, ttl, lost):
    """Check that a lifetime above 5 minutes becomes one hour. A lifetime above one hour is also reported as dropped."""
    passed = called(client, provider, text("a", client, **{NAME: {"mode": "explicit", "ttl": ttl}}))
    assert marked(passed.sent["messages"][0]["content"]) == {0: "1h"}
    at = "messages" if client == "openai_chat" else "input"
    assert passed.dropped == [f"/{at}/0/content/0/{NAME}/{name}" for name in lost]


@providers
@clients
def test_more_than_four_breakpoints_are_reported(client, provider):
    passed = called(client, provider, *(text(str(number), client, **MARK) for number in range(6)))
    assert list(marked(passed.sent["messages"][0]["content"])) == [2, 3, 4, 5]
    at = "messages" if client == "openai_chat" else "input"
    assert passed.dropped == [f"/{at}/0/content/{number}/{NAME}" for number in (0, 1)]


@clients
@pytest.mark.parametrize("provider", ["bedrock_converse", "gemini_generate_content"])
def test_a_provider_without_breakpoints_gets_none(client, provider):
    passed = called(client, provider, text("a", client, **MARK), cache_points=False)
    at = "messages" if client == "openai_chat" else "input"
    assert passed.dropped == [f"/{at}/0/content/0/{NAME}"]


@clients
@pytest.mark.parametrize("mark", [True, {}, {"mode": "implicit"}, {"mode": "explicit", "ttl": "1h"}], ids=repr)
def test_a_wrong_breakpoint_is_a_400_that_names_it(client, mark):
    with pytest.raises(Refused) as refused:
        called(client, "bedrock_converse", text("a", client, **{NAME: mark}))
    at = "messages" if client == "openai_chat" else "input"
    assert refused.value.problem.param == f"{at}[0].content[0].{NAME}"
