"""An upstream body as plain values that are the same for every dialect, so that one test can check all dialects."""

import base64
import itertools
import json
from types import SimpleNamespace


def turns_of(dialect, body):
    """Yield the turns of a body as (role, parts). A part is a tuple whose first item is the kind of the part."""
    read = {"openai_chat": _chat, "anthropic_messages": _claude, "bedrock_converse": _converse}[dialect]
    return read(body["messages"])


def _chat(messages):
    """Yield the turns of a Chat body.

    Tool results, which are separate messages in Chat, are part of the user's turn.
    """

    def side(message):
        return "user" if message["role"] == "tool" else message["role"]

    for role, run in itertools.groupby(messages, side):
        yield role, [part for message in run for part in _chat_parts(message)]


def _chat_parts(message):
    if message["role"] == "tool":
        content = message["content"]
        texts = [content] if isinstance(content, str) else [part["text"] for part in content]
        yield "result", message["tool_call_id"], [("text", text) for text in texts]
        return
    content = message.get("content") or []
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        if part["type"] == "text":
            yield "text", part["text"]
        elif part["type"] == "image_url":
            yield "image", part["image_url"]["url"].partition(";")[0].removeprefix("data:image/")
        else:
            yield "document", part["file"]["filename"]
    for call in message.get("tool_calls") or ():
        yield "call", call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])


def _claude(messages):
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        yield message["role"], [part for block in blocks for part in _claude_parts(block)]


def _claude_parts(block):
    kind = block["type"]
    if kind == "text":
        yield "text", block["text"]
    elif kind == "image":
        yield "image", block["source"]["media_type"].removeprefix("image/")
    elif kind == "document":
        yield "document", block.get("title", "")
    elif kind == "tool_use":
        yield "call", block["id"], block["name"], block["input"]
    elif kind == "tool_result":
        content = block["content"]
        inner = [{"type": "text", "text": content}] if isinstance(content, str) else content
        yield "result", block["tool_use_id"], [part for each in inner for part in _claude_parts(each)]
    elif kind == "thinking":
        yield "thinking", block["thinking"], block["signature"]
    else:
        yield "redacted", block["data"]
    if "cache_control" in block:
        yield "mark", block["cache_control"].get("ttl", "")


def _converse(messages):
    for message in messages:
        yield message["role"], [_converse_part(block) for block in message["content"]]


def _converse_part(block):
    (kind, value), *_ = block.items()
    if kind == "text":
        return "text", value
    if kind == "image":
        return "image", value["format"]
    if kind == "document":
        return "document", value["name"]
    if kind == "toolUse":
        return "call", value["toolUseId"], value["name"], value["input"]
    if kind == "toolResult":
        return "result", value["toolUseId"], [_converse_part(inner) for inner in value["content"]]
    if kind == "cachePoint":
        return "mark", value.get("ttl", "")
    if kind == "json":
        return "json", value
    if "redactedContent" in value:
        return "redacted", base64.b64decode(value["redactedContent"]).decode()
    return "thinking", value["reasoningText"]["text"], value["reasoningText"].get("signature", "")


def tools_of(body):
    """Return a dict from the name of each tool in a body to an object with the tool's `schema`, `strict`, `mark` and
    `description`.

    `mark` is the lifetime of a prompt cache that ends at this tool. It is "" for the default lifetime, and None if no
    cache ends there.
    """
    tools, by_name = (body.get("toolConfig") or {}).get("tools", body.get("tools")) or [], {}
    for tool in tools:
        inner = tool.get("toolSpec") or tool.get("function") or tool
        if "cachePoint" in inner:
            list(by_name.values())[-1].mark = inner["cachePoint"].get("ttl", "")
            continue
        schema = inner.get("inputSchema", {}).get("json") or inner.get("input_schema") or inner.get("parameters")
        mark = inner["cache_control"].get("ttl", "") if "cache_control" in inner else None
        by_name[inner["name"]] = SimpleNamespace(
            schema=schema, strict=inner.get("strict"), mark=mark, description=inner.get("description")
        )
    return by_name


def system_of(body):
    """Yield the system prompt of a Messages or Converse body as pairs: ("text", text) and ("mark", lifetime).

    A mark says that a prompt cache ends there. Its lifetime is "" for the default one.
    """
    for block in body.get("system", ()):
        if "cachePoint" in block:
            yield "mark", block["cachePoint"].get("ttl", "")
        else:
            yield "text", block["text"]
            if "cache_control" in block:
                yield "mark", block["cache_control"].get("ttl", "")
