"""Tests of recorded replies of the real Bedrock, which the simulated Bedrock sends through the whole gateway."""

import base64
import json
import re
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from botocore.eventstream import EventStreamBuffer

from gateway.contract.flag import Usage
from gateway.contract.framing import sse
from gateway.testkit import scenarios
from gateway.testkit.bedrock import BedrockSim
from tests.helpers.gateway import KEY, bedrock, gate
from tests.helpers.recordings import exchanges, served


class Serving:
    """A gateway in front of a simulated Bedrock, which serves one recorded reply."""

    def __init__(self, tmp_path, exchange):
        self.exchange = exchange
        self.model = unquote(exchange["path"].split("/")[2])
        self.tmp_path = tmp_path

    async def post(self, path, body, flags=("bedrock_converse",)):
        data, content_type = served(self.exchange)
        async with BedrockSim(keys={KEY}, models={self.model}, any_signature=True) as simulated:
            simulated.script(scenarios.raw(data, content_type, self.exchange["status"]))
            provider = bedrock(simulated.url, models=[self.model], flags=flags)
            async with gate(self.tmp_path, {"b": provider}) as gw:
                reply = await gw.post(path, body)
                return simulated.requests, reply, (await gw.calls())[0]


@pytest.mark.parametrize("exchange", exchanges("converse", "converse-stream"))
async def test_the_native_route_leaves_a_recorded_reply_byte_for_byte(tmp_path, exchange):
    (seen,), reply, record = await Serving(tmp_path, exchange).post(f"/bedrock{exchange['path']}", exchange["request"])
    assert seen.refused == "", "the simulated Bedrock takes what the real one took"
    assert seen.path == exchange["path"]
    expected = served(exchange)[0]
    if b"(gateway: " in reply.body:  # advice about a model that is not available there, behind the provider's words
        told, words = json.loads(reply.body)["message"], json.loads(expected)["message"]
        assert (reply.status, told.partition(" (gateway: ")[0]) == (exchange["status"], words)
        return
    assert (reply.status, reply.body) == (exchange["status"], expected)
    assert reply.headers["content-type"] == exchange["headers"]["content-type"]
    if exchange["status"] == 200:
        expected = reported(exchange)
        assert record["tokens"] == expected.usage.as_dict()
        assert record["stop"] == expected.stop


@pytest.mark.parametrize("exchange", exchanges("converse", "converse-stream", status=200))
async def test_the_chat_route_has_the_same_text_tools_stop_and_usage(tmp_path, exchange):
    stream = "response_base64" in exchange
    serving = Serving(tmp_path, exchange)
    body = {"model": serving.model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    if stream:
        body["stream_options"] = {"include_usage": True}
    _, reply, record = await serving.post("/v1/chat/completions", body)
    assert reply.status == 200, reply.body
    answer = from_chunks(reply.body) if stream else from_completion(json.loads(reply.body))
    expected = reported(exchange)
    text, tools = content(exchange)
    assert (answer["text"], answer["tools"]) == (without_thinking(text), tools)
    assert (
        answer["finish"]
        == {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "stop_sequence": "stop"}[
            expected.stop
        ]
    )
    usage = expected.usage
    assert answer["usage"]["completion_tokens"] == usage.output
    assert (
        answer["usage"]["prompt_tokens"] == usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    )
    assert record["tokens"] == usage.as_dict()


def without_thinking(text):
    """Return a recorded text without the thinking at its start, which is between tags. A Chat client gets the thinking
    separately.

    If the closing tag is missing, the thinking is the answer, and only the opening tag is removed.
    """
    if match := re.match(r"\s*<(think|thinking)>(.*?)</\1>\s*", text, re.DOTALL):
        return text[match.end() :]
    return re.sub(r"^\s*<(think|thinking)>\s*", "", text)


def reported(exchange):
    """Return the usage and the stop reason of a recorded reply, read without code of the gateway."""
    if "response" in exchange:
        usage, stop = exchange["response"]["usage"], exchange["response"]["stopReason"]
    else:
        events = {kind: data for kind, data in streamed(exchange) if kind in {"metadata", "messageStop"}}
        usage, stop = events["metadata"]["usage"], events["messageStop"]["stopReason"]
    tokens = Usage(
        input=usage["inputTokens"],
        output=usage["outputTokens"],
        cache_read=usage.get("cacheReadInputTokens", 0),
        cache_write_5m=usage.get("cacheWriteInputTokens", 0),
    )
    return SimpleNamespace(usage=tokens, stop=stop)


def streamed(exchange):
    """Return the events of a recorded AWS event stream, as (event type, payload)."""
    buffer = EventStreamBuffer()
    buffer.add_data(base64.b64decode(exchange["response_base64"]))
    return [(message.headers[":event-type"], json.loads(message.payload)) for message in buffer]


def content(exchange):
    """Return the text and the tool calls (name, arguments) of a recorded reply, without calls that AWS's servers
    ran.
    """
    if "response" in exchange:
        blocks = exchange["response"]["output"]["message"]["content"]
        text = "".join(block.get("text", "") for block in blocks)
        tools = [
            (block["toolUse"]["name"], block["toolUse"]["input"])
            for block in blocks
            if is_clients(block.get("toolUse"))
        ]
        return text, tools
    text, names, arguments = "", [], {}
    for _, data in streamed(exchange):
        delta = data.get("delta", {})
        text += delta.get("text", "")
        if is_clients(data.get("start", {}).get("toolUse")):
            names.append((data["contentBlockIndex"], data["start"]["toolUse"]["name"]))
        if "toolUse" in delta:
            index = data["contentBlockIndex"]
            arguments[index] = arguments.get(index, "") + delta["toolUse"]["input"]
    return text, [(name, json.loads(arguments.get(index) or "{}")) for index, name in names]


def is_clients(tool):
    return tool is not None and tool.get("type") != "server_tool_use"


def from_completion(data):
    (choice,) = data["choices"]
    calls = choice["message"].get("tool_calls") or []
    return {
        "text": choice["message"]["content"] or "",
        "tools": [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls],
        "finish": choice["finish_reason"],
        "usage": data["usage"],
    }


def from_chunks(body):
    answer = {"text": "", "tools": {}, "finish": None, "usage": None}
    frames = [frame.payload for frame in sse.Decoder().feed(body)]
    assert frames[-1] == b"[DONE]"
    for payload in frames[:-1]:
        chunk = json.loads(payload)
        answer["usage"] = chunk.get("usage") or answer["usage"]
        for choice in chunk["choices"]:
            answer["text"] += choice["delta"].get("content") or ""
            answer["finish"] = choice["finish_reason"] or answer["finish"]
            for call in choice["delta"].get("tool_calls") or []:
                tool = answer["tools"].setdefault(call["index"], ["", ""])
                tool[0] += call["function"].get("name") or ""
                tool[1] += call["function"].get("arguments") or ""
    answer["tools"] = [(name, json.loads(arguments)) for name, arguments in answer["tools"].values()]
    return answer
