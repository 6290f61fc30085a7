"""Requests and capabilities for tests of the translation from Chat to Converse.

Every request that `sent` returns has passed three checks (`check`): botocore's own validation, a check of the patterns
and enums that botocore does not validate, and a check of Converse's rules for turns.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import Any

import botocore.session
import orjson
from botocore.validate import ParamValidator

from gateway.contract.flag import Caps, Event, event
from tests.helpers.samples import PNG
from tests.helpers.translation import Translator

CLAUDE = Caps(
    family="claude", max_output=32_000, sampling="one", top_k="field", reasoning="budget", signed_reasoning=True,
    portable_signatures="claude",
    redacted_reasoning=True, tool_choice_fields=True, leading_assistant=True, strict_tools=True, cache_points=True,
    tool_cache_points=True, cache_ttl=True,
)  # fmt: skip
NEW_CLAUDE = Caps(
    family="claude", sampling="none", reasoning="adaptive", efforts=("low", "medium", "high", "max"),
    thinking_display=True, signed_reasoning=True, portable_signatures="claude", redacted_reasoning=True,
    tool_choice_fields=True, mid_system=True,
    leading_assistant=True, prefill=False, json_schema=True, cache_points=True, tool_cache_points=True, cache_ttl=True,
)  # fmt: skip
NOVA = Caps(family="nova", top_k="inference_config", reasoning="nova", cache_points=True)
LLAMA = Caps(family="llama", additional_properties=False, tool_result_alone=True, forced_tool_choice=False)
MISTRAL = Caps(
    family="mistral", additional_properties=False, tool_result_alone=True, tool_result_json=True,
    tool_result_images=False, tool_id_alphanumeric=9,
)  # fmt: skip
WRITER = Caps(family="writer", tool_result_alone=True, tool_result_status=False)
GPT_OSS = Caps(family="openai", reasoning="reasoning_effort", tool_result_images=False)
ALL = (CLAUDE, NEW_CLAUDE, NOVA, LLAMA, MISTRAL, WRITER, GPT_OSS)

PDF = "JVBERi0xLjQKJcOkw7zDtsOfCg=="
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
_TEXT_DOCUMENTS = {"csv", "txt", "md", "html", "docx", "xlsx", "xls", "doc"}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def called(*calls: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    """Return an assistant message with tool calls. Each call is given as (id, name, arguments)."""
    made = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls]
    return {"role": "assistant", "content": None, "tool_calls": made, **more}


def result(tool_id: str, content: Any = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": tool_id, "content": content}


def tool(name: str = "look", parameters: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, "parameters": parameters or {"type": "object", "properties": {}}, **more}
    return {"type": "function", "function": function}


def check(converse: dict[str, Any], caps: Caps, *, stream: bool) -> None:
    """Check a Converse request: that botocore accepts it, that the server's own checks pass, and that its turns obey
    Converse's rules.
    """
    assert_valid(converse, stream=stream)
    assert_turns(converse, caps)


TRANSLATOR = Translator(
    "openai_chat", "bedrock_converse", {"model": "m", "messages": [user("Hi")]}, CLAUDE, checks=check
)  # fmt: skip
ask, sent, dropped = TRANSLATOR.request, TRANSLATOR.sent, TRANSLATOR.dropped


def opened(body: dict[str, Any], caps: Caps = CLAUDE, drops: list[str] | None = None, *, stream: bool = False):
    """Return the translation of a Chat body. The translated request is not checked."""
    return TRANSLATOR.open(body, caps, drops, stream=stream, judged=False).translation


@cache
def _shape(stream: bool) -> Any:
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    return model.shape_for("ConverseStreamRequest" if stream else "ConverseRequest")


def assert_valid(converse: dict[str, Any], *, stream: bool = False) -> None:
    report = ParamValidator().validate({"modelId": "some.model-v1:0", **converse}, _shape(stream))
    assert not report.has_errors(), report.generate_report()
    _check(converse, _shape(stream))


def _check(value: Any, shape: Any) -> None:
    """Check the patterns and enums of the service model, which botocore itself does not check."""
    if shape.type_name == "structure" and not shape.metadata.get("document"):
        for name, inner in value.items():
            _check(inner, shape.members[name])
    elif shape.type_name == "list":
        for inner in value:
            _check(inner, shape.member)
    elif shape.type_name == "string":
        assert value in shape.enum or not shape.enum, value
        pattern = shape.metadata.get("pattern")
        assert not pattern or re.fullmatch(pattern, value), (shape.name, value)


def assert_turns(converse: dict[str, Any], caps: Caps) -> None:
    messages = converse["messages"]
    roles = [message["role"] for message in messages if message["role"] != "system"]
    assert roles[0] == "user" or caps.leading_assistant
    assert roles[-1] == "user" or caps.prefill
    assert all(one != other for one, other in pairwise(roles)), roles
    ids: list[str] = []
    seen: set[str] = set()
    for message in messages:
        content = message["content"]
        answered = [block["toolResult"]["toolUseId"] for block in content if "toolResult" in block]
        if message["role"] == "user":
            assert sorted(answered) == sorted(ids)
            ids = []
        else:
            assert not answered
            assert not ids
        ids += [block["toolUse"]["toolUseId"] for block in content if "toolUse" in block]
        assert seen.isdisjoint(ids)
        assert len(set(ids)) == len(ids)
        seen |= set(ids)
        _assert_content(content, caps)
    assert not ids
    called_tools = any("toolUse" in block for message in messages for block in message["content"])
    assert not called_tools or "toolConfig" in converse
    points = [*converse.get("system", ()), *(converse.get("toolConfig") or {}).get("tools", ())]
    points += [block for message in messages for block in message["content"]]
    assert sum("cachePoint" in block for block in points) <= 4


def _assert_content(content: list[dict[str, Any]], caps: Caps) -> None:
    assert content
    texts = [block["text"] for block in content if "text" in block]
    assert all(text.strip() for text in texts)
    kinds = [next(iter(block)) for block in content]
    if "document" in kinds:
        assert texts
        assert "toolResult" not in kinds
        names = [block["document"]["name"] for block in content if "document" in block]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9 \-()\[\]]+", name) and "  " not in name for name in names)
    if "toolResult" in kinds:
        first_other = next((i for i, kind in enumerate(kinds) if kind not in {"toolResult", "cachePoint"}), len(kinds))
        assert "toolResult" not in kinds[first_other:]
        assert first_other == len(kinds) or not caps.tool_result_alone
    for before, block in zip([None, *content], content, strict=False):
        if "cachePoint" in block:
            assert before
            assert "reasoningContent" not in before
            assert "cachePoint" not in before
            assert "document" not in before or before["document"]["format"] not in _TEXT_DOCUMENTS


def stream_of(content: list[dict[str, Any]], stop: str, usage: dict[str, Any]) -> list[Event]:
    """Return the events in which Converse streams a reply. Each text, and each input of a tool call, comes in two
    pieces, as in recorded streams.
    """
    events = [event("messageStart", {"role": "assistant", "p": "abc"})]
    for index, block in enumerate(content):
        (kind, value), *_ = block.items()
        if kind == "toolUse":
            start = {key: inner for key, inner in value.items() if key != "input"}
            events.append(event("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": start}}))
        events += [
            event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta, "p": "abcd"})
            for delta in _deltas(kind, value)
        ]
        events.append(event("contentBlockStop", {"contentBlockIndex": index}))
    events.append(event("messageStop", {"stopReason": stop}))
    events.append(event("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}))
    return events


def _deltas(kind: str, value: Any) -> list[dict[str, Any]]:
    if kind == "text":
        return [{"text": value[:2]}, {"text": value[2:]}]
    if kind == "toolUse":
        text = orjson.dumps(value["input"]).decode() if value["input"] else ""
        return [{"toolUse": {"input": piece}} for piece in (text[:3], text[3:])]
    if "redactedContent" in value:
        return [{"reasoningContent": value}]
    inner = value["reasoningText"]
    deltas = [{"reasoningContent": {"text": inner["text"]}}]
    return deltas + ([{"reasoningContent": {"signature": inner["signature"]}}] if "signature" in inner else [])


def choice(body: dict[str, Any]) -> dict[str, Any]:
    """Return the only choice of a reply, with the reply's usage. Missing fields of the message are added as empty."""
    (only,) = body["choices"]
    message = only["message"]
    return {
        "message": {
            "content": message["content"] or "",
            "reasoning_content": message.get("reasoning_content", ""),
            "thinking_blocks": message.get("thinking_blocks", []),
            "tool_calls": message.get("tool_calls", []),
        },
        "finish_reason": only["finish_reason"],
        "native_finish_reason": only.get("native_finish_reason"),
        "usage": body["usage"],
    }


def whole_reply(translation: Any, content: list[dict[str, Any]], stop: str, usage: dict[str, Any]) -> dict[str, Any]:
    """Return the body that the client gets for an unstreamed reply of Converse."""
    output = {"message": {"role": "assistant", "content": content}}
    return orjson.loads(translation.whole(orjson.dumps({"output": output, "stopReason": stop, "usage": usage})))
