"""Tests of URLs in a body: which URLs are fetched, what replaces them, and that nothing else in the body changes."""

import base64
import json

import pytest

from gateway.contract.capabilities import Caps
from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest, Fetch, Members, StepResponse, Target
from gateway_plugins.shared import remote_files

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 "
PDF = b"%PDF-1.7\n"
URL = "https://images.test/cats/one.png?sig=1"
PAPER = "https://papers.test/a%20b.pdf"


def ask(dialect, body):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ClientRequest("flag", dialect, "generate", "POST", "/", "", {}, Members(body), "m", False)


def target(dialect="bedrock_converse", **caps):
    return Target("p", "flag", "m", dialect, Caps(**caps))


def run(request, to=None, files=None):
    """Run `remote_files.steps` for a request. Return the changed request, and the `Fetch` of each downloaded file."""
    dropped = []
    steps = remote_files.steps(request, to or target(), dropped.append)
    fetches = []
    if isinstance(steps, ClientRequest):
        return steps, fetches
    try:
        wanted = next(steps)
        while True:
            assert isinstance(wanted, Fetch)
            fetches.append(wanted)
            wanted = steps.send((files or {}).get(wanted.url, StepResponse(200, {"content-type": "image/png"}, PNG)))
    except StopIteration as end:
        assert dropped == []
        return end.value, fetches


def body_of(request):
    return json.loads(request.top.body)


def reply(data, content_type=""):
    return StepResponse(200, {"content-type": content_type}, data)


def data_url(data, mime):
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def chat(*parts):
    return ask("openai_chat", {"model": "m", "messages": [{"role": "user", "content": list(parts)}]})


def messages(*blocks):
    return ask("anthropic_messages", {"model": "m", "messages": [{"role": "user", "content": list(blocks)}]})


def responses(*items):
    return ask("openai_responses", {"model": "m", "input": list(items)})


def test_a_chat_image_becomes_a_data_url_of_what_its_bytes_are():
    part = {"type": "image_url", "image_url": {"url": URL, "detail": "high"}}
    done, fetches = run(chat(part), files={URL: reply(JPEG, "image/png")})
    assert [fetch.param for fetch in fetches] == ["messages[0].content[0].image_url.url"]
    assert body_of(done)["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": data_url(JPEG, "image/jpeg"), "detail": "high"}}
    ]


def test_a_chat_image_as_a_bare_string_is_read_too():
    done, _ = run(chat({"type": "image_url", "image_url": URL}))
    assert body_of(done)["messages"][0]["content"][0]["image_url"] == data_url(PNG, "image/png")


def test_a_chat_file_gets_its_data_and_a_name_from_its_url():
    """Check that a file in Chat gets the data behind its URL. If the client gives no name, the name is taken from the
    URL.
    """
    files = {PAPER: reply(PDF, "application/octet-stream")}
    done, _ = run(chat({"type": "file", "file": {"file_data": PAPER}}), files=files)
    assert body_of(done)["messages"][0]["content"][0]["file"] == {
        "file_data": data_url(PDF, "application/pdf"),
        "filename": "a b.pdf",
    }
    done, _ = run(chat({"type": "file", "file": {"file_data": PAPER, "filename": "x.pdf"}}), files=files)
    assert body_of(done)["messages"][0]["content"][0]["file"]["filename"] == "x.pdf"


def test_sources_of_messages_become_base64_wherever_they_stand():
    image = {"type": "image", "source": {"type": "url", "url": URL}, "cache_control": {"type": "ephemeral"}}
    paper = {"type": "document", "source": {"type": "url", "url": PAPER}, "title": "t"}
    made = {"type": "document", "source": {"type": "content", "content": [image]}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [image, paper]}
    done, fetches = run(messages(image, paper, made, result), files={PAPER: reply(PDF, "text/html")})
    assert [fetch.url for fetch in fetches] == [URL, PAPER]
    block = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    read = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(PDF).decode()}
    content = body_of(done)["messages"][0]["content"]
    assert content[0] == {**image, "source": block}
    assert content[1] == {**paper, "source": read}
    assert content[2]["source"]["content"] == [{**image, "source": block}]
    assert content[3]["content"] == [content[0], content[1]]


def test_a_text_by_url_becomes_a_text_source():
    url = "https://papers.test/notes.md"
    done, _ = run(
        messages({"type": "document", "source": {"type": "url", "url": url}}),
        files={url: reply("# Notes é".encode(), "text/markdown; charset=utf-8")},
    )
    source = body_of(done)["messages"][0]["content"][0]["source"]
    assert source == {"type": "text", "media_type": "text/plain", "data": "# Notes é"}


def test_images_and_files_of_responses_are_read_in_messages_and_outputs():
    image = {"type": "input_image", "image_url": URL, "detail": "auto"}
    file = {"type": "input_file", "file_url": PAPER}
    done, _ = run(
        responses(
            {"role": "user", "content": [image, file]},
            {"type": "function_call_output", "call_id": "c", "output": [image, file]},
            {
                "type": "computer_call_output",
                "call_id": "d",
                "output": {"type": "computer_screenshot", "image_url": URL},
            },
            {"role": "user", "content": "http is only a word here"},
        ),
        files={PAPER: reply(PDF)},
    )
    part = {**image, "image_url": data_url(PNG, "image/png")}
    read = {"type": "input_file", "file_data": data_url(PDF, "application/pdf"), "filename": "a b.pdf"}
    items = body_of(done)["input"]
    assert items[0]["content"] == [part, read]
    assert items[1]["output"] == [part, read]
    assert items[2]["output"]["image_url"] == data_url(PNG, "image/png")


def test_the_same_url_is_asked_for_once_and_the_others_at_the_same_time():
    others = [f"https://images.test/{index}.png" for index in range(3)]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in (URL, *others, URL)]
    done, fetches = run(chat(*parts))
    assert [fetch.url for fetch in fetches] == [URL, *others]
    assert [ahead.url for ahead in fetches[0].ahead] == others
    assert all(not ahead.ahead for fetch in fetches for ahead in fetch.ahead)
    assert {part["image_url"]["url"] for part in body_of(done)["messages"][0]["content"]} == {
        data_url(PNG, "image/png")
    }


def test_all_other_bytes_of_the_body_stay_as_they_came():
    before = (
        b'{ "model" : "m", "big": 12345678901234567890123, "x": 1.0,"messages":[ {"role":"assistant","tool_calls":['
        b'{"n":1.50}]},\n {"role": "user" ,"content":[{"type":"text","text":"caf\\u00e9 \\/"}, {"type": "image_url", '
        b'"image_url" : {"detail": "low", "url" : "'
    )
    after = b'" , "n": 1E10} } ] } ] , "stop":"\\n" }'
    done, _ = run(ask("openai_chat", before + URL.encode() + after))
    was, now = Members(before + URL.encode() + after), done.top
    assert now["big"] == was["big"] == b"12345678901234567890123"
    assert [now[name] for name in ("model", "x", "stop")] == [was[name] for name in ("model", "x", "stop")]
    read = now["messages"]
    for text in (
        b'{"role":"assistant","tool_calls":[{"n":1.50}]}',
        b'"caf\\u00e9 \\/"',
        b'"detail": "low"',
        b'"n": 1E10',
    ):
        assert text in read
    assert data_url(PNG, "image/png").encode() in read
    assert URL.encode() not in done.top.body


def test_a_provider_that_reads_urls_gets_them_unchanged():
    """Check that URLs are not replaced by files if the provider can fetch URLs itself and has the client's dialect."""
    request = chat({"type": "image_url", "image_url": {"url": URL}})
    assert run(request, target("openai_chat")) == (request, [])


def test_bedrock_gets_the_files_in_any_dialect():
    request = messages({"type": "image", "source": {"type": "url", "url": URL}})
    done, fetches = run(request, target("anthropic_messages", remote_media=False))
    assert len(fetches) == 1
    assert body_of(done)["messages"][0]["content"][0]["source"]["type"] == "base64"


@pytest.mark.parametrize(
    "client_request",
    [
        chat({"type": "image_url", "image_url": {"url": data_url(PNG, "image/png")}}),
        chat({"type": "text", "text": "https://images.test/one.png"}),
        chat({"type": "text", "text": "http"}, {"type": "image_url", "image_url": {"url": "ftp://images.test/"}}),
        chat("https://images.test/one.png"),
        chat(
            {"type": "image_url", "image_url": {"url": 7}}, {"type": "image_url"}, {"type": "file", "file": "http://"}
        ),
        ask("openai_chat", {"model": "m", "messages": "http://images.test/"}),
        ask("openai_chat", {"model": "m", "messages": ["http://images.test/", {"content": 7}, {"content": None}]}),
        ask("openai_chat", {"model": "m", "user": "http://images.test/"}),
        messages({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "http"}}),
        messages({"type": "text", "text": "http", "source": {"url": "https://images.test/one.png"}}),
        messages({"type": "image", "source": {"type": "file", "file_id": "http://images.test/"}}),
        responses({"role": "user", "content": [{"type": "input_text", "text": "https://images.test/"}]}),
        ask("openai_responses", {"model": "m", "input": "https://images.test/one.png"}),
        ask("opaque", {"messages": [{"content": [{"image_url": {"url": URL}}]}]}),
        ask("bedrock_converse", {"messages": [{"role": "user", "content": [{"text": URL}]}]}),
    ],
)
def test_a_url_that_stands_in_no_place_for_one_is_only_text(client_request):
    assert run(client_request) == (client_request, [])


@pytest.mark.parametrize(
    ("data", "content_type", "message"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "image/svg+xml"),
        (b"<!doctype html>", "text/html; charset=utf-8", "text/html"),
        (b"<script>", "image/png", "image/png"),
        (b"\x7fELF", "", "file of no known type"),
        (b"BM....", "image/bmp", "image/bmp"),
    ],
)
def test_what_is_no_image_by_its_bytes_is_refused_by_its_field(data, content_type, message):
    for request in (
        chat({"type": "image_url", "image_url": {"url": URL}}),
        messages({"type": "image", "source": {"type": "url", "url": URL}}),
        responses({"role": "user", "content": [{"type": "input_image", "image_url": URL}]}),
    ):
        with pytest.raises(Refused, match="is no png, jpeg, gif or webp image") as caught:
            run(request, files={URL: reply(data, content_type)})
        assert f"({message})" in caught.value.problem.message
        assert "sig=1" not in caught.value.problem.message
        assert caught.value.problem.param.startswith(("messages[0].content[0].", "input[0].content[0]."))


def test_a_pdf_in_an_image_of_messages_is_refused():
    with pytest.raises(Refused, match=r"application/pdf\) is no png"):
        run(messages({"type": "image", "source": {"type": "url", "url": URL}}), files={URL: reply(PDF)})


@pytest.mark.parametrize(
    ("data", "content_type", "match"),
    [
        (b"<!doctype html>", "text/html", "leads to a web page"),
        (b"<html/>", "application/xhtml+xml; charset=utf-8", "leads to a web page"),
        (b"\x7fELF", "application/x-executable", "is not one of"),
        (b"PK\x03\x04", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "neither a PDF nor"),
        (b"\xff\xfe\x00", "text/plain", "neither a PDF nor"),
        (PNG, "application/pdf", "neither a PDF nor"),
    ],
)
def test_what_is_no_document_that_messages_take_is_refused_by_its_field(data, content_type, match):
    url = "https://papers.test/x?sig=1"
    with pytest.raises(Refused, match=match) as caught:
        run(
            messages({"type": "document", "source": {"type": "url", "url": url}}),
            files={url: reply(data, content_type)},
        )
    assert caught.value.problem.param == "messages[0].content[0].source.url"


def test_formats_that_converse_takes_come_as_files_of_chat():
    for data, content_type, name, mime in (
        (b"a,b\n", "text/csv", "t", "text/csv"),
        (b"# x", "application/octet-stream", "readme.md", "text/markdown"),
        (b"a: 1", "text/yaml", "t", "text/plain"),
        (WEBP, "", "t", "image/webp"),
    ):
        url = f"https://papers.test/{name}"
        done, _ = run(chat({"type": "file", "file": {"file_data": url}}), files={url: reply(data, content_type)})
        assert body_of(done)["messages"][0]["content"][0]["file"]["file_data"] == data_url(data, mime)


def test_patching_replaces_adds_and_takes_out_members_at_any_depth():
    body = b'{"a":[1, {"b":"x","c":{"d":1.0}} ,3],"e":null}'
    changes = {("a", 1, "b"): b'"y"', ("a", 1, "c", "f"): b"2", ("e",): None, ("a", 2): b"[]"}
    assert remote_files.patch(body, changes) == b'{"a":[1,{"b":"y","c":{"d":1.0,"f":2}},[]]}'
