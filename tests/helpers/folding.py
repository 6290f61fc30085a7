"""Streams put together as clients do it: events of a dialect to the body that a whole reply would have.

Each takes (event type, data) in order. A stream that breaks the dialect's rules fails here.
"""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

from botocore.eventstream import EventStreamBuffer

from gateway.contract.framing import sse
from tests.helpers import chat_to_converse, messages_to, responses_to


def events_of(body, content_type):
    """(event type, data) of the bytes of a stream; data is None for what is no JSON."""
    if "eventstream" in content_type:
        buffer = EventStreamBuffer()
        buffer.add_data(body)
        return [_framed(message) for message in buffer]
    frames = sse.Decoder().feed(body)
    return [_named(frame.payload) for frame in frames]


def _named(payload):
    data = json.loads(payload) if payload[:1] == b"{" else None
    return ((data or {}).get("type", ""), data)


def _framed(message):
    kind = message.headers.get(":event-type") or message.headers[":exception-type"]
    data = json.loads(message.payload)
    if kind == "chunk":
        return _named(base64.b64decode(data["bytes"]))
    return kind, data


def _events(pairs):
    """What the folds beside the other tests take."""
    return [SimpleNamespace(kind=kind, data=data, payload=json.dumps(data)) for kind, data in pairs]


def chat(pairs):
    pairs = [(kind, data) for kind, data in pairs if data is not None]
    folded = chat_to_converse.folded(_events(pairs))
    message = {name: value for name, value in folded["message"].items() if value or name == "content"}
    choice = {"index": 0, "finish_reason": folded["finish_reason"], "message": {"role": "assistant", **message}}
    return {"choices": [choice], "usage": folded["usage"]}


def responses(pairs):
    return responses_to.folded(_events(pairs))


def messages(pairs):
    return messages_to.message_of(_events([pair for pair in pairs if pair[0] != "ping"]))


def converse(pairs):
    """A message of Converse: blocks are numbered densely, and only calls have a start."""
    content, inputs, body = [], {}, {}
    for kind, data in pairs:
        index = data.get("contentBlockIndex")
        if kind == "contentBlockStart":
            assert index == len(content)
            tool = data["start"].get("toolUse")  # recorded streams have results of AWS's own tools beside calls
            content.append({"toolUse": {**tool, "input": {}}} if tool else data["start"])
            inputs |= {index: ""} if tool else {}
        elif kind == "contentBlockDelta":
            if index == len(content):
                content.append({})
            _add(content[index], data["delta"], inputs, index)
        elif kind == "messageStop":
            body |= data
        elif kind == "metadata":
            body["usage"] = data["usage"]
    for index, given in inputs.items():
        content[index]["toolUse"]["input"] = json.loads(given or "{}")
    return {"output": {"message": {"role": "assistant", "content": content}}, **body}


def _add(block, delta, inputs, index):
    if "toolUse" in delta:
        inputs[index] += delta["toolUse"]["input"]
    elif "citation" in delta:
        cited = block.setdefault("citationsContent", {"content": [{"text": block.pop("text", "")}], "citations": []})
        cited["citations"].append(delta["citation"])
    elif "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "reasoningContent" in delta:
        thought = delta["reasoningContent"]
        if "redactedContent" in thought:
            block["reasoningContent"] = thought
            return
        inner = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
        inner["text"] += thought.get("text", "")
        if "signature" in thought:
            inner["signature"] = thought["signature"]


FOLDS = {
    "openai_chat": chat,
    "openai_responses": responses,
    "anthropic_messages": messages,
    "bedrock_converse": converse,
}
