"""Tests that filters can block requests for a token count and InvokeModel requests, and can change the texts in them.

Such a request's body can have several forms. All of them are tried.
"""

import base64
import json
from types import SimpleNamespace

import pytest
from aiohttp import web

from tests.helpers.gateway import HAIKU, NOVA, SONNET, bedrock, gate
from tests.helpers.providers import provider

CLAUDE, GEMINI, LLAMA, TITAN = "claude-sonnet-4-5", "gemini-2.5-flash", "meta.llama3-8b-v1:0", "amazon.titan-embed-v2:0"
GUARD = """
from gateway.contract.filter import blocked

api = 1


def open(call, settings):
    return Guard()


class Guard:
    def request(self, asked):
        if any("falcon" in text.text for text in asked.texts):
            raise blocked("forbidden_word", "the prompt has a word that is not allowed here")
        return asked.with_texts([text.text.replace("secret", "public") for text in asked.texts])
"""
VERSION = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5}
TOOL = {"toolUseId": "t", "name": "n", "input": {}}


def user(content):
    return {"messages": [{"role": "user", "content": content}]}


def invoked(model, inner):
    packed = base64.b64encode(json.dumps(inner).encode()).decode()
    return f"/model/{model}/count-tokens", {"input": {"invokeModel": {"body": packed}}}


def of_converse(inner, model=SONNET):
    return f"/bedrock/model/{model}/count-tokens", {"input": {"converse": inner}}


def of_messages(inner, prefix=""):
    return f"{prefix}/v1/messages/count_tokens", {"model": CLAUDE, **inner}


def of_gemini(body):
    return f"/v1beta/models/{GEMINI}:countTokens", body


def requests(text):
    """Yield requests that contain the text, each as a description, a path and a body."""
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}
    contents = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    whole = {"model": f"models/{GEMINI}", **contents}
    result = {"toolResult": {"toolUseId": "t", "content": [{"text": text}]}}
    yield "messages", *of_messages(user(text))
    yield "messages, in a block", *of_messages(user([{"type": "text", "text": text}]))
    yield "messages, system", *of_messages({**user("hi"), "system": text})
    yield "messages, document", *of_messages(user([document]))
    yield "messages on Bedrock's path", *of_messages(user(text), "/anthropic")
    yield "Converse", *of_converse(user([{"text": text}]))
    yield "Converse, system", *of_converse({**user([{"text": "hi"}]), "system": [{"text": text}]})
    yield "Converse, result of a tool", *of_converse(user([result]))
    yield "Converse, arguments", *of_converse(user([{"toolUse": {**TOOL, "input": {"a": text}}}]))
    yield (
        "Converse with more members",
        *of_converse({**user([{"text": text}]), "additionalModelRequestFields": {"k": 1}}),
    )
    yield "Converse, unknown block", *of_converse(user([{"text": "hi"}, {"novel": {"words": text}}]))
    yield "Converse for a model of InvokeModel", *of_converse(user([{"text": text}]), HAIKU)
    yield "InvokeModel of Claude", *invoked(HAIKU, {**VERSION, **user(text)})
    yield "InvokeModel of Nova", *invoked(NOVA, {"schemaVersion": "messages-v1", **user([{"text": text}])})
    yield "InvokeModel of Llama", *invoked(LLAMA, {"prompt": text, "max_gen_len": 5})
    yield "InvokeModel of an unknown form", *invoked(LLAMA, {"a": [{"b": [[text]]}]})
    yield "Gemini", *of_gemini(contents)
    yield "Gemini, whole request", *of_gemini({"generateContentRequest": whole})
    yield "Gemini, in the other spelling", *of_gemini({"generate_content_request": whole})
    yield "InvokeModel itself, prompt", f"/model/{LLAMA}/invoke", {"prompt": text}
    yield "InvokeModel itself, embedding", f"/model/{TITAN}/invoke", {"inputText": text}
    yield "InvokeModel itself, texts", f"/model/{TITAN}/invoke", {"texts": ["hi", text], "input_type": "search_query"}
    yield "InvokeModel itself, rerank", f"/model/{TITAN}/invoke", {"query": "hi", "documents": ["hi", text]}
    yield "InvokeModel itself, image", f"/model/{TITAN}/invoke", {"textToImageParams": {"text": text}}
    yield "InvokeModel itself, as a stream", f"/model/{LLAMA}/invoke-with-response-stream", {"prompt": text}


def readable(body):
    """Return the JSON text of a request's body. If the body contains an InvokeModel body in base64, return only this
    inner JSON.
    """
    data = json.loads(body)
    inner = data.get("input", {}).get("invokeModel", {}).get("body") if isinstance(data.get("input"), dict) else None
    return json.dumps(data) if inner is None else base64.b64decode(inner, validate=True).decode()


@pytest.fixture
async def gw(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "guard.py").write_text(GUARD)
    sent = []

    async def answer(request):
        sent.append(readable(await request.read()))
        return web.json_response({"inputTokens": 5, "input_tokens": 5, "totalTokens": 5})

    async with provider(answer) as url:
        own = {"baseurl": url, "apikey": "k"}
        models = [HAIKU, NOVA, LLAMA, TITAN]
        providers = {
            "invoke": bedrock(url, flags=["bedrock_model_invoke"], models=models),
            "converse": bedrock(url, flags=["bedrock_converse"], models=[SONNET]),
            "anthropic": {**own, "models": [CLAUDE], "compatibility": {"anthropic_messages": True}},
            "google": {**own, "models": [GEMINI], "compatibility": {"gemini_generate_content": True}},
        }
        async with gate(tmp_path, providers, plugins=folder, more={"plugins": {"guard": {}}}) as running:
            yield SimpleNamespace(post=running.post, sent=sent)


async def test_a_word_in_any_form_of_request_is_blocked(gw):
    passed = {}
    for name, path, body in requests("a falcon flies"):
        reply = await gw.post(path, body)
        if reply.status != 403 or b"the prompt has a word" not in reply.body:
            passed[name] = reply.status, reply.body
    assert (passed, gw.sent) == ({}, [])


async def test_a_text_in_any_form_of_request_is_changed(gw):
    unchanged = {}
    for name, path, body in requests("a secret text"):
        gw.sent.clear()
        reply = await gw.post(path, body)
        if not gw.sent or not all("a public text" in each and "secret" not in each for each in gw.sent):
            unchanged[name] = reply.status, reply.body, [*gw.sent]
    assert unchanged == {}
