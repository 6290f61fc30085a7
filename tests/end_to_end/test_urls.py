"""Tests of images and documents by URL, from clients of every dialect: what the provider gets, and what is refused."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager

import pytest

from tests.attacks.test_fetch import PNG, host, reply
from tests.end_to_end.test_providers import anthropic
from tests.helpers.gateway import HAIKU, NOVA, bedrock, gate

PDF = b"%PDF-1.7\n%%EOF\n"
PNG_64 = base64.b64encode(PNG).decode()
PDF_64 = base64.b64encode(PDF).decode()
INVOKE = f"/bedrock/model/{HAIKU}/invoke"


async def site(writer, head):
    """Serve an image, a document, a web page, and a redirect to an internal address."""
    path = head.split()[1].partition(b"?")[0]
    pages = {
        b"/one.png": reply(PNG),
        b"/two.png": reply(PNG),
        b"/paper.pdf": reply(PDF, Content_Type="application/pdf"),
        b"/page": reply(b"<!doctype html>", Content_Type="text/html"),
        b"/inside": reply(b"", "302 Found", Location="http://169.254.169.254/latest/meta-data/"),
    }
    writer.write(pages.get(path, reply(b"x", "404 Not Found")))
    await writer.drain()


@asynccontextmanager
async def reached(state, providers, **fetch):
    """Yield a gateway that may download files from a local web server. The attribute `site` is the server's URL."""
    async with host(site, "127.0.0.1") as web:
        listed = {"private_hosts": [f"127.0.0.1:{web.port}"], **fetch}
        async with gate(state, providers, server={"fetch": listed}) as gw:
            gw.site = f"http://127.0.0.1:{web.port}"
            gw.web = web
            yield gw


def chat(url, model=NOVA):
    image = {"type": "image_url", "image_url": {"url": url}}
    return {"model": model, "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}, image]}]}


def messages(url, paper=None, model=HAIKU):
    blocks = [{"type": "text", "text": "hello"}, {"type": "image", "source": {"type": "url", "url": url}}]
    if paper:
        blocks.append({"type": "document", "source": {"type": "url", "url": paper}})
    return {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": blocks}]}


def responses(url, paper):
    parts = [
        {"type": "input_text", "text": "hello"},
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_file", "file_url": paper},
    ]
    return {"model": HAIKU, "input": [{"role": "user", "content": parts}]}


async def test_a_chat_client_shows_converse_an_image_by_url(tmp_path, bedrock_sim):
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        answer = await gw.post("/v1/chat/completions", chat(f"{gw.site}/one.png?sig=secret"))
        assert answer.status == 200, answer.body
        metrics = await (await gw.get("/metrics")).text()
        await gw.calls()  # its line comes behind those of its fetches
        logged = gw.lines.entries("fetch.finished")
        assert b"secret" not in gw.lines.data
    image = bedrock_sim.requests[0].json["messages"][0]["content"][1]["image"]
    assert image == {"format": "png", "source": {"bytes": PNG_64}}
    assert 'irisgate_fetches_total{outcome="ok"} 1.0' in metrics
    assert [(entry["host"], entry["bytes"]) for entry in logged] == [(f"127.0.0.1:{gw.web.port}", len(PNG))]


async def test_a_chat_client_shows_claude_on_invoke_an_image_by_url(tmp_path, bedrock_sim):
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        answer = await gw.post("/v1/chat/completions", chat(f"{gw.site}/one.png", HAIKU))
        assert answer.status == 200, answer.body
    source = bedrock_sim.requests[0].json["messages"][0]["content"][1]["source"]
    assert source == {"type": "base64", "media_type": "image/png", "data": PNG_64}


async def test_a_messages_client_sends_files_by_url_to_invoke(tmp_path, bedrock_sim):
    """Check that a Messages request with URLs of an image and a document reaches Claude on InvokeModel with the files'
    content in place of the URLs.
    """
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        answer = await gw.post("/v1/messages", messages(f"{gw.site}/one.png", f"{gw.site}/paper.pdf"))
        assert answer.status == 200, answer.body
    content = bedrock_sim.requests[0].json["messages"][0]["content"]
    assert content[1]["source"] == {"type": "base64", "media_type": "image/png", "data": PNG_64}
    assert content[2]["source"] == {"type": "base64", "media_type": "application/pdf", "data": PDF_64}


async def test_an_invoke_client_gets_its_urls_read_as_well(tmp_path, bedrock_sim):
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        request = {**messages(f"{gw.site}/one.png"), "anthropic_version": "bedrock-2023-05-31"}
        del request["model"]
        answer = await gw.post(INVOKE, request)
        assert answer.status == 200, answer.body
    assert bedrock_sim.requests[0].json["messages"][0]["content"][1]["source"]["data"] == PNG_64


async def test_a_messages_client_shows_converse_images_and_documents_by_url(tmp_path, bedrock_sim):
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url, flags=("bedrock_converse",))}) as gw:
        answer = await gw.post("/v1/messages", messages(f"{gw.site}/one.png", f"{gw.site}/paper.pdf"))
        assert answer.status == 200, answer.body
    content = bedrock_sim.requests[0].json["messages"][0]["content"]
    assert [block["image"]["source"]["bytes"] for block in content if "image" in block] == [PNG_64]
    assert [block["document"]["source"]["bytes"] for block in content if "document" in block] == [PDF_64]


async def test_a_responses_client_shows_converse_images_and_files_by_url(tmp_path, bedrock_sim):
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url, flags=("bedrock_converse",))}) as gw:
        answer = await gw.post("/v1/responses", responses(f"{gw.site}/one.png", f"{gw.site}/paper.pdf"))
        assert answer.status == 200, answer.body
    content = bedrock_sim.requests[0].json["messages"][0]["content"]
    assert [block["image"]["source"]["bytes"] for block in content if "image" in block] == [PNG_64]
    assert [block["document"]["source"]["bytes"] for block in content if "document" in block] == [PDF_64]


async def test_anthropic_reads_the_urls_of_its_own_dialect_itself(tmp_path, anthropic_upstream):
    async with reached(tmp_path, {"a": anthropic(anthropic_upstream)}) as gw:
        sent = json.dumps(messages("https://images.example.com/cat.png", model="claude-haiku-4-5")).encode()
        assert (await gw.post("/v1/messages", sent)).status == 200
        assert gw.web.requests == []
    assert anthropic_upstream.requests[0].body == sent


async def test_a_url_that_stands_twice_is_fetched_once(tmp_path, bedrock_sim):
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        body = chat(f"{gw.site}/one.png")
        body["messages"][0]["content"].append(body["messages"][0]["content"][1])
        assert (await gw.post("/v1/chat/completions", body)).status == 200
        assert len(gw.web.requests) == 1


async def test_twenty_images_are_fetched_and_not_one_more(tmp_path, bedrock_sim):
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        for count, status in ((20, 200), (21, 400)):
            body = chat(f"{gw.site}/one.png?0")
            content = body["messages"][0]["content"]
            content += [{"type": "image_url", "image_url": {"url": f"{gw.site}/one.png?{n}"}} for n in range(1, count)]
            answer = await gw.post("/v1/chat/completions", body)
            assert answer.status == status, answer.body
    assert "at most 20 different URLs" in (await answer.json())["error"]["message"]
    assert len(bedrock_sim.requests) == 1


async def test_twenty_calls_at_once_get_theirs(tmp_path, bedrock_sim):
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        posts = [gw.post("/v1/chat/completions", chat(f"{gw.site}/one.png?{n}")) for n in range(20)]
        answers = await asyncio.gather(*posts)
        assert [answer.status for answer in answers] == [200] * 20
    assert len(bedrock_sim.requests) == 20


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", chat, "messages[0].content[1].image_url.url"),
        ("/v1/messages", messages, "messages[0].content[1].source.url"),
        ("/v1/responses", lambda url: responses(url, url), "input[0].content[1].image_url"),
    ],
)
async def test_a_url_that_leads_inside_is_a_400_without_a_request(tmp_path, bedrock_sim, path, body, field):
    """Check that a request with a URL of an internal address gets a 400 in the client's dialect, and is sent to no
    provider.
    """
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url)}) as gw:
        for url in (
            "http://169.254.169.254/latest/meta-data/?a=secret", f"http://localhost:{gw.web.port}/one.png?a=secret",
            f"{gw.url}/api/sessions?a=secret", f"{gw.site}/inside?a=secret", f"{gw.site}/page?a=secret",
            f"{gw.site}/missing?a=secret", "http://2852039166/?a=secret",
        ):  # fmt: skip
            answer = await gw.post(path, body(url))
            assert answer.status == 400, url
            error = (await answer.json())["error"]
            assert error["message"].startswith(field), error
            assert "secret" not in error["message"]
            assert error["type"] == "invalid_request_error"
        assert b"secret" not in gw.lines.data
    assert bedrock_sim.requests == []


async def test_fetching_can_be_switched_off(tmp_path, bedrock_sim):
    async with reached(tmp_path, {"b": bedrock(bedrock_sim.url)}, enabled=False) as gw:
        answer = await gw.post("/v1/chat/completions", chat(f"{gw.site}/one.png"))
        assert answer.status == 400
        assert (
            '"server.fetch" of this gateway is off; or send the file itself'
            in (await answer.json())["error"]["message"]
        )
        assert gw.web.requests == []
