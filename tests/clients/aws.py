"""boto3 clients with the settings of `deploy/clients.md`, for the tests of native and of translated conversions."""

import asyncio
import json
from contextlib import closing

import boto3
from botocore.config import Config

from tests.clients.samples import CITIES, TOOLS
from tests.helpers.gateway import HAIKU, KEY, NOVA

CLAUDE = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hello"}],
}
HELLO = [{"role": "user", "content": [{"text": "hello"}]}]
TOOL_CONFIG = {
    "tools": [
        {"toolSpec": {"name": name, "description": description, "inputSchema": {"json": CITIES}}}
        for name, description in TOOLS.items()
    ]
}


def provider(url, model, flag, authorization):
    """Return the configuration of a provider with one model and one compatibility flag."""
    entry = {"baseurl": url, "apikey": KEY, "authorization": authorization, "models": [model]}
    return {**entry, "compatibility": {flag: True}}


def connect(url, service="bedrock-runtime"):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="-",
        aws_secret_access_key="-",
        config=Config(retries={"total_max_attempts": 1}),
    )


def read(stream):
    with closing(stream):
        return list(stream)


async def converse(client, **given):
    return await asyncio.to_thread(client.converse, **{"modelId": NOVA, "messages": HELLO, **given})


async def converse_stream(client, **given):
    """Return all events of a Converse stream."""
    given = {"modelId": NOVA, "messages": HELLO, **given}
    return await asyncio.to_thread(lambda: read(client.converse_stream(**given)["stream"]))


async def invoke(client, body, model=HAIKU):
    given = {"modelId": model, "body": json.dumps(body)}
    reply = await asyncio.to_thread(client.invoke_model, **given)
    return json.loads(await asyncio.to_thread(reply["body"].read))


async def invoke_stream(client, body, model=HAIKU):
    """Return the JSON in all chunks of an InvokeModel stream."""
    given = {"modelId": model, "body": json.dumps(body)}
    events = await asyncio.to_thread(lambda: read(client.invoke_model_with_response_stream(**given)["body"]))
    return [json.loads(event["chunk"]["bytes"]) for event in events]


def message_of(events):
    """Return (message, stop reason, usage), assembled from the events of a Converse stream."""
    blocks, stop, usage = {}, None, None
    for event in events:
        ((kind, data),) = event.items()
        index = data.get("contentBlockIndex")
        if kind == "contentBlockStart":
            blocks[index] = {"toolUse": {**data["start"]["toolUse"], "input": ""}}
        elif kind == "contentBlockDelta":
            add(blocks.setdefault(index, {}), data["delta"])
        elif kind == "messageStop":
            stop = data["stopReason"]
        elif kind == "metadata":
            usage = data["usage"]
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return {"role": "assistant", "content": [blocks[index] for index in sorted(blocks)]}, stop, usage


def add(block, delta):
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    else:
        text = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
        text["text"] += delta["reasoningContent"].get("text", "")
        text |= {name: value for name, value in delta["reasoningContent"].items() if name != "text"}


async def answer(client, stream, **given):
    """Return the assistant's message and the stop reason of a reply, which is streamed if `stream` is true."""
    if stream:
        return message_of(await converse_stream(client, **given))[:2]
    reply = await converse(client, **given)
    return reply["output"]["message"], reply["stopReason"]
