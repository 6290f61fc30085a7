"""Folding of a stream, as clients do it: the events become the body of the corresponding unstreamed reply.

A stream that breaks the rules of its dialect fails here. Events are the gateway's own (`Event`) or pairs (event type,
data). No decoder of the gateway is used, except to split server-sent events.
"""

import base64
import copy
import json
from functools import cache

from botocore.eventstream import EventStreamBuffer
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.contract.framing import sse


def read_stream(body, content_type):
    """Return the events of a stream's bytes as (event type, data). The data is None if it is not a JSON object.

    Pings that are comments or have no data are left out.
    """
    if "eventstream" in content_type:
        buffer = EventStreamBuffer()
        buffer.add_data(body)
        return [framed_event(message) for message in buffer]
    if "json" in content_type:
        return [("", data) for data in json.loads(body)]
    return [typed_event(frame.payload) for frame in sse.Decoder().feed(body) if frame.payload]


def typed_event(payload):
    data = json.loads(payload) if payload[:1] == b"{" else None
    return ((data or {}).get("type", ""), data)


def framed_event(message):
    kind = message.headers.get(":event-type") or message.headers[":exception-type"]
    data = json.loads(message.payload)
    if kind == "chunk":
        return typed_event(base64.b64decode(data["bytes"]))
    return kind, data


def fold(dialect, events):
    """Return the unstreamed body that corresponds to the events."""
    pairs = [event if isinstance(event, tuple) else (event.kind, event.data) for event in events]
    return _FOLDS[dialect]([(kind, copy.deepcopy(data)) for kind, data in pairs if data is not None])


def _fold_chat(pairs):
    message = {"role": "assistant", "content": ""}
    choice = {"index": 0, "finish_reason": None, "message": message}
    body = {"choices": [choice], "usage": None}
    for _, chunk in pairs:
        if not chunk["choices"]:
            body["usage"] = chunk["usage"]
            continue
        (part,) = chunk["choices"]
        assert part["index"] == 0
        assert choice["finish_reason"] is None
        choice |= {name: part[name] for name in ("finish_reason", "native_finish_reason") if name in part}
        _add_chat_delta(message, part["delta"])
    return body


def _add_chat_delta(message, delta):
    for name in ("content", "reasoning_content"):
        if delta.get(name):
            message[name] = message.get(name, "") + delta[name]
    for block in delta.get("thinking_blocks") or ():
        blocks = message.setdefault("thinking_blocks", [])
        assert block.pop("index") == len(blocks)
        blocks.append(block)
    if delta.get("annotations"):
        message.setdefault("annotations", []).extend(delta["annotations"])
    for call in delta.get("tool_calls") or ():
        calls = message.setdefault("tool_calls", [])
        if "id" in call:
            assert call["index"] == len(calls)
            calls.append(call)
        else:
            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]


@cache
def _adapter(kind):
    return TypeAdapter(kind)


def valid_response(response):
    """Return the response. Check first that OpenAI's own type of the Responses API accepts it."""
    _adapter(Response).validate_python(response)
    return response


def _fold_responses(pairs):
    """Return the response in the last event.

    Check that the types, numbers, order and deltas of earlier events agree with it.
    """
    datas = [data for _, data in pairs]
    assert [data["sequence_number"] for data in datas] == list(range(len(datas)))
    assert [data["type"] for data in datas[:2]] == ["response.created", "response.in_progress"]
    assert [kind for kind, _ in pairs] == [data["type"] for data in datas]
    for data in datas:
        _adapter(ResponseStreamEvent).validate_python(data)
    items, texts, open_item = [], {}, None
    for data in datas[2:-1]:
        kind = data["type"]
        assert data["output_index"] == len(items)
        if kind == "response.output_item.added":
            assert open_item is None
            open_item = data["item"]
            continue
        assert open_item is not None, kind
        if kind == "response.output_item.done":
            assert data["item"]["id"] == open_item["id"]
            items.append(data["item"])
            open_item = None
            continue
        assert data["item_id"] == open_item["id"]
        key = (len(items), data.get("content_index"), data.get("summary_index"))
        if kind.endswith(".delta"):
            texts[key] = texts.get(key, "") + data["delta"]
        elif kind.endswith(".done") and "part" not in data:
            whole = next(data[name] for name in ("text", "refusal", "arguments", "input") if name in data)
            assert texts.get(key, "") == whole
    assert open_item is None
    response = datas[-1]["response"]
    assert datas[-1]["type"] == f"response.{response['status']}"
    assert response["output"] == items
    return valid_response(response)


def _fold_messages(pairs):
    """Return the message that Anthropic's SDK builds from the events."""
    message, inputs = None, {}
    for kind, data in pairs:
        assert data["type"] == kind
        if kind == "message_start":
            assert message is None
            message = data["message"]
        elif kind == "content_block_start":
            assert data["index"] == len(message["content"])
            message["content"].append(data["content_block"])
        elif kind == "content_block_delta":
            _add_messages_delta(message["content"][data["index"]], data["delta"], inputs, data["index"])
        elif kind == "message_delta":
            message |= data["delta"]
            message["usage"] |= data["usage"]
    for index, text in inputs.items():
        message["content"][index]["input"] = json.loads(text)
    return message


def _add_messages_delta(block, delta, inputs, index):
    kind = delta["type"]
    if kind == "input_json_delta":
        inputs[index] = inputs.get(index, "") + delta["partial_json"]
    elif kind == "citations_delta":
        block.setdefault("citations", []).append(delta["citation"])
    else:
        name = kind.removesuffix("_delta")
        block[name] += delta[name]


def _fold_converse(pairs):
    """Return the reply. Blocks that have a start event must be numbered without gaps."""
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
            _add_converse_delta(content[index], data["delta"], inputs, index)
        elif kind == "messageStop":
            body |= data
        elif kind == "metadata":
            body["usage"] = data["usage"]
    for index, text in inputs.items():
        content[index]["toolUse"]["input"] = json.loads(text or "{}")
    return {"output": {"message": {"role": "assistant", "content": content}}, **body}


def _add_converse_delta(block, delta, inputs, index):
    if "toolUse" in delta:
        inputs[index] += delta["toolUse"]["input"]
    elif "citation" in delta:
        cited = block.setdefault("citationsContent", {"content": [{"text": block.pop("text", "")}], "citations": []})
        cited["citations"].append(delta["citation"])
    elif "text" in delta:
        holder = block["citationsContent"]["content"][0] if "citationsContent" in block else block
        holder["text"] = holder.get("text", "") + delta["text"]
    elif "reasoningContent" in delta:
        _add_converse_reasoning(block, delta["reasoningContent"])


def _add_converse_reasoning(block, delta):
    if "redactedContent" in delta:
        block["reasoningContent"] = delta
        return
    inner = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
    inner["text"] += delta.get("text", "")
    if "signature" in delta:
        inner["signature"] = delta["signature"]


def _fold_gemini(pairs):
    """Return the response with the parts of all chunks. Consecutive texts of the same kind become one text."""
    parts, body = [], {}
    for _, chunk in pairs:
        (candidate,) = chunk["candidates"]
        assert candidate["index"] == 0
        assert "candidates" not in body or "finishReason" not in body["candidates"][0]
        for part in candidate["content"]["parts"]:
            last = parts[-1] if parts else {}
            if set(part) <= {"text", "thought"} and "text" in last and last.get("thought") == part.get("thought"):
                last["text"] += part["text"]
            elif part != {"text": ""}:
                parts.append(part)
        body = chunk
    assert "finishReason" in body["candidates"][0]
    body["candidates"][0]["content"]["parts"] = parts
    return body


_FOLDS = {
    "openai_chat": _fold_chat,
    "openai_responses": _fold_responses,
    "anthropic_messages": _fold_messages,
    "bedrock_converse": _fold_converse,
    "gemini_generate_content": _fold_gemini,
}
DIALECTS = tuple(_FOLDS)
"""The dialects that can be folded."""
