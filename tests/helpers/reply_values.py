"""What a reply tells, in words of no dialect: so that a whole reply and a stream of it can be held against each other.

A stream is folded into the body that it stands for, without trust in anything but its deltas and its last event.
"""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True)
class Told:
    text: str
    thinking: str
    calls: list
    """(name, decoded arguments)."""
    stop: str
    cited: int
    """Citations."""


def told(dialect, body):
    """Of a whole reply."""
    return _TOLD[dialect](body)


def told_by(dialect, events):
    """Of a stream's events."""
    return told(dialect, _FOLDED[dialect](events))


def _of_blocks(blocks, stop):
    """Blocks are (kind, text, citations) or ("call", name, arguments)."""
    said = [block for block in blocks if block[0] != "call"]
    return Told(
        "".join(text for kind, text, _ in said if kind == "text"),
        "".join(text for kind, text, _ in said if kind == "thinking"),
        [(name, arguments) for kind, name, arguments in blocks if kind == "call"],
        stop,
        sum(count for _, _, count in said),
    )


def _messages(body):
    def block(each):
        if each["type"] == "tool_use":
            return "call", each["name"], each["input"]
        return each["type"], each.get("text") or each.get("thinking") or "", len(each.get("citations") or ())

    return _of_blocks([block(each) for each in body["content"]], body["stop_reason"])


def _converse(body):
    def block(each):
        if "toolUse" in each:
            return "call", each["toolUse"]["name"], each["toolUse"]["input"]
        if "reasoningContent" in each:
            return "thinking", each["reasoningContent"].get("reasoningText", {}).get("text", ""), 0
        cited = each.get("citationsContent", {"content": [each], "citations": []})
        return "text", "".join(part["text"] for part in cited["content"]), len(cited["citations"])

    return _of_blocks([block(each) for each in body["output"]["message"]["content"]], body["stopReason"])


def _chat(body):
    choice = body["choices"][0]
    message = choice["message"]
    functions = [call["function"] for call in message.get("tool_calls", ())]
    return Told(
        message.get("content") or "",
        message.get("reasoning_content", ""),
        [(function["name"], orjson.loads(function["arguments"])) for function in functions],
        choice["finish_reason"],
        len(message.get("annotations", ())),
    )


def _responses(body):
    parts = [part for item in body["output"] if item["type"] == "message" for part in item["content"]]
    thoughts = [part for item in body["output"] if item["type"] == "reasoning" for part in item["summary"]]
    calls = [item for item in body["output"] if item["type"] == "function_call"]
    return Told(
        "".join(part.get("text") or part.get("refusal") or "" for part in parts),
        "".join(part["text"] for part in thoughts),
        [(call["name"], orjson.loads(call["arguments"])) for call in calls],
        f"{body['status']} {(body['incomplete_details'] or {}).get('reason', '')}",
        sum(len(part.get("annotations", ())) for part in parts),
    )


def _fold_messages(events):
    blocks, stop = {}, ""
    for data in (event.data for event in events):
        if data["type"] == "content_block_start":
            assert data["index"] == len(blocks)
            blocks[data["index"]] = {**data["content_block"], "json": "", "citations": []}
        elif data["type"] == "content_block_delta":
            block, delta = blocks[data["index"]], data["delta"]
            for name, into in (("text", "text"), ("thinking", "thinking"), ("partial_json", "json")):
                block[into] = block.get(into, "") + delta.get(name, "")
            block["citations"] += [delta["citation"]] if "citation" in delta else []
        elif data["type"] == "message_delta":
            stop = data["delta"]["stop_reason"]
    for block in blocks.values():
        block["input"] = orjson.loads(block["json"] or "{}")
    return {"content": list(blocks.values()), "stop_reason": stop}


def _fold_converse(events):
    blocks, stop = {}, ""
    for event in events:
        data = event.data
        index = data.get("contentBlockIndex", 0)
        if event.kind == "contentBlockStart":
            blocks[index] = {"toolUse": {"name": data["start"]["toolUse"]["name"], "input": ""}}
        elif event.kind == "contentBlockDelta":
            _fold_delta(blocks.setdefault(index, {"citationsContent": {"content": [], "citations": []}}), data["delta"])
        elif event.kind == "messageStop":
            stop = data["stopReason"]
    assert sorted(blocks) == list(range(len(blocks)))
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = orjson.loads(block["toolUse"]["input"] or "{}")
    content = [blocks[index] for index in sorted(blocks)]
    return {"output": {"message": {"content": content}}, "stopReason": stop}


def _fold_delta(block, delta):
    if "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    elif "reasoningContent" in delta:
        text = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
        text["text"] += delta["reasoningContent"].get("text", "")
    elif "citation" in delta:
        block["citationsContent"]["citations"].append(delta["citation"])
    else:
        block["citationsContent"]["content"].append({"text": delta["text"]})


def _fold_chat(events):
    message, finish = {"content": "", "reasoning_content": "", "tool_calls": [], "annotations": []}, None
    for choice in (choice for event in events for choice in event.data["choices"]):
        delta = choice["delta"]
        for name in ("content", "reasoning_content"):
            message[name] += delta.get(name) or ""
        message["annotations"] += delta.get("annotations", [])
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(message["tool_calls"]):
                message["tool_calls"].append({"function": {"name": call["function"]["name"], "arguments": ""}})
            message["tool_calls"][call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        assert finish is None
        finish = choice["finish_reason"]
    return {"choices": [{"message": message, "finish_reason": finish}]}


_TOLD = {
    "anthropic_messages": _messages,
    "bedrock_converse": _converse,
    "openai_chat": _chat,
    "openai_responses": _responses,
}
_FOLDED = {
    "anthropic_messages": _fold_messages,
    "bedrock_converse": _fold_converse,
    "openai_chat": _fold_chat,
    "openai_responses": lambda events: events[-1].data["response"],
}
