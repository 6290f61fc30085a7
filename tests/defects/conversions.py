"""The nine conversions between dialects, without a network: what a client says is judged and read as the provider gets it.

`Conversion.sent` translates a request and lets the simulated provider's rules judge it; `view` reads what was sent in plain
values, so that one test holds for every dialect; `Conversion.reply_body` translates a provider's reply, streamed and whole.
"""

from __future__ import annotations

import base64
import itertools
import json
from types import SimpleNamespace

import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest, Members, Target, event
from gateway.contract.registry import discover
from gateway.testkit.judge import judge
from gateway.testkit.render import (
    anthropic as render_anthropic,
)
from gateway.testkit.render import (
    chat as render_chat,
)
from gateway.testkit.render import (
    converse as render_converse,
)
from gateway.testkit.rules.chat import chat_fault
from gateway.testkit.rules.claude import claude_fault
from gateway.testkit.rules.converse import converse_fault
from tests.helpers.clients import CLIENTS
from tests.helpers.fold import fold

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
OPUS = "us.anthropic.claude-opus-5"
LLAMA = "us.meta.llama4-maverick-17b-instruct-v1:0"
MISTRAL = "mistral.mistral-large-2402-v1:0"
WRITER = "us.writer.palmyra-x5-v1:0"
GPT_OSS = "openai.gpt-oss-120b-1:0"
MODELS = {"anthropic_messages": "claude-haiku-4-5", "bedrock_converse": HAIKU, "openai_chat": "gpt-4o"}
"""The usual model behind each dialect."""
TRANSLATORS = discover().translators


class Sent:
    """A translated request: its body, what was dropped, and the translation for the reply."""

    def __init__(self, conversion, translation, dropped):
        self.translation = translation
        self.dropped = dropped
        self.body = json.loads(translation.request.top.body)
        self.turns = list(view(conversion.upstream, self.body))

    def parts(self, kind):
        return [part for _, parts in self.turns for part in parts if part[0] == kind]

    @property
    def tools(self):
        """Offered tools by name, as (schema, strict, cache mark)."""
        return offered(self.body)


class Conversion:
    def __init__(self, client, upstream):
        self.say = CLIENTS[client]
        self.client = client
        self.upstream = upstream

    def opened(self, body, model=None, *, stream=False, headers=None, **caps):
        model = model or MODELS[self.upstream]
        caps = capabilities(model, caps)
        top = Members(json.dumps(body).encode())
        ask = ClientRequest(
            self.say.flag, self.client, "generate", "POST", self.say.path("m", stream=stream), "", headers or {}, top, "m", stream
        )  # fmt: skip
        dropped = []
        target = Target("p", self.upstream, model, self.upstream, caps)
        translation = TRANSLATORS[self.client, self.upstream].open(ask, target, dropped.append)
        made = Sent(self, translation, dropped)
        fault = self.fault(made.body, caps, stream=stream)
        assert fault is None, fault
        return made

    def sent(self, conversation, model=None, *, headers=None, caps=None, **wishes):
        return self.opened(self.say.body(conversation, **wishes), model, headers=headers, **(caps or {}))

    def refusal(self, conversation, model=None, *, caps=None, **wishes):
        with pytest.raises(Refused) as refused:
            self.sent(conversation, model, caps=caps, **wishes)
        return refused.value.problem

    def fault(self, body, caps, *, stream):
        if self.upstream == "openai_chat":
            return chat_fault(body)
        if self.upstream == "bedrock_converse":
            return judge("ConverseStream" if stream else "Converse", body) or converse_fault(body, caps)
        return claude_fault(
            {name: value for name, value in body.items() if name != "anthropic_beta"}, caps, bedrock=False
        )

    def reply_body(self, reply, *, stream, **wishes):
        """The body that a client gets of a reply, put together from its events if it is streamed.

        The reply is a `Canned`, or (events, whole) in the provider's dialect.
        """
        body = self.say.body(self.say.user(self.say.text("Hi")), **wishes)
        if stream and self.client == "openai_chat":
            body["stream_options"] = {"include_usage": True}
        translation = self.opened(body, stream=stream).translation
        events, whole = reply if isinstance(reply, tuple) else rendered(self.upstream, reply)
        if not stream:
            return json.loads(translation.whole(json.dumps(whole).encode()))
        return fold(self.client, self.events(translation, events))

    def events(self, translation, events):
        """(event type, data) of what the client gets."""
        out = [made for kind, data in events for made in translation.feed(event(kind, data))]
        return [(made.kind, made.data) for made in [*out, *translation.close()] if made.payload[:1] == b"{"]

    def read_reply(self, reply, *, stream, **wishes):
        return self.say.read_reply(self.reply_body(reply, stream=stream, **wishes))


def rendered(upstream, canned):
    """(events, whole) of a canned reply in a provider's dialect."""
    if upstream == "openai_chat":
        chunks = render_chat.chunks(canned, "m", 9, include_usage=True)
        return [("", chunk) for chunk in chunks], render_chat.completion(canned, "m", 9)
    if upstream == "bedrock_converse":
        return render_converse.events(canned, 9), render_converse.whole(canned, 9)
    events = render_anthropic.events(canned, "m", 9)
    return [(data["type"], data) for data in events], render_anthropic.message(canned, "m", 9)


def view(dialect, body):
    """Turns as (role, parts); a part is a tuple that begins with its kind."""
    read = {"openai_chat": _chat, "anthropic_messages": _claude, "bedrock_converse": _converse}[dialect]
    return read(body["messages"])


def _chat(messages):
    """Chat's results are messages of their own; they belong to the user's side, like what follows them."""

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


def offered(body):
    tools, found = (body.get("toolConfig") or {}).get("tools", body.get("tools")) or [], {}
    for tool in tools:
        inner = tool.get("toolSpec") or tool.get("function") or tool
        if "cachePoint" in inner:
            list(found.values())[-1].mark = inner["cachePoint"].get("ttl", "")
            continue
        schema = inner.get("inputSchema", {}).get("json") or inner.get("input_schema") or inner.get("parameters")
        mark = inner["cache_control"].get("ttl", "") if "cache_control" in inner else None
        found[inner["name"]] = SimpleNamespace(
            schema=schema, strict=inner.get("strict"), mark=mark, description=inner.get("description")
        )
    return found


def system_of(body):
    """Texts and marks of the system prompt of a Messages or Converse body."""
    for block in body.get("system", ()):
        if "cachePoint" in block:
            yield "mark", block["cachePoint"].get("ttl", "")
        else:
            yield "text", block["text"]
            if "cache_control" in block:
                yield "mark", block["cache_control"].get("ttl", "")


PAIRS = [
    ("openai_chat", "anthropic_messages"),
    ("openai_chat", "bedrock_converse"),
    ("openai_responses", "anthropic_messages"),
    ("openai_responses", "bedrock_converse"),
    ("openai_responses", "openai_chat"),
    ("anthropic_messages", "bedrock_converse"),
    ("anthropic_messages", "openai_chat"),
    ("bedrock_converse", "anthropic_messages"),
    ("bedrock_converse", "openai_chat"),
]


def conversions(*, clients=None, upstreams=None):
    """A parameter `conversion` of a test: each conversion between these dialects, by default all."""
    found = [
        Conversion(client, upstream)
        for client, upstream in PAIRS
        if (clients is None or client in clients) and (upstreams is None or upstream in upstreams)
    ]
    return pytest.mark.parametrize(
        "conversion", found, ids=[f"{conversion.client}-{conversion.upstream}" for conversion in found]
    )


CLAUDES = ("anthropic_messages", "bedrock_converse")
OPENAIS = ("openai_chat", "openai_responses")
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
