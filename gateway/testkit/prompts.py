"""Reads the facts of a request on which a simulated reply depends.

These facts are the user's last text, the tool results, the names of the tools, and the number of prompt tokens, which
is estimated from the size of the body. A missing text is "".

`read` reads every dialect except Responses and Gemini, which have functions of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

_CHARACTERS_A_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str
    result: str
    """The text of the tool results at the end of the request. It is "" if there are none."""
    tools: list[str]
    tokens: int


def read(body: Mapping[str, Any]) -> Prompt:
    messages = [message for message in body.get("messages") or () if isinstance(message, dict)]
    last = messages[-1] if messages else {}
    content = last.get("content") or ""
    blocks = content if isinstance(content, list) else [{"text": content}]
    results = [_result(block) for block in blocks if isinstance(block, dict)]
    result = str(content) if last.get("role") == "tool" else " ".join(filter(None, results))
    # only the user may choose a scenario, so the text of tool results is not searched for the name of a scenario
    text = "" if result else " ".join(str(block.get("text") or "") for block in blocks if isinstance(block, dict))
    return Prompt(
        text=text.strip() or str(body.get("prompt") or ""),
        result=result,
        tools=list(_tools(body)),
        tokens=max(1, len(orjson.dumps(body)) // _CHARACTERS_A_TOKEN),
    )


def read_responses(body: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a Responses request, which has a list of items instead of messages."""
    given = body.get("input")
    items = given if isinstance(given, list) else [{"content": given}]
    kinds = [str(item.get("type", "")) for item in items]
    trailing = next((at for at, kind in enumerate(reversed(kinds)) if not kind.endswith("_output")), len(items))
    results = [
        _result({"type": "tool_result", "content": item.get("output")}) for item in items[len(items) - trailing :]
    ]
    inner = [*(body.get("tools") or ())]
    inner += [tool for outer in inner if isinstance(outer, dict) for tool in outer.get("tools") or ()]
    functions = [tool for tool in inner if isinstance(tool, dict) and tool.get("type") in {"function", "custom"}]
    prompt = read({"messages": items[-1:], "tools": functions})
    return replace(
        prompt,
        text="" if results else prompt.text,
        result=" ".join(results),
        tokens=max(1, len(orjson.dumps(body)) // _CHARACTERS_A_TOKEN),
    )


def read_gemini(body: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a Gemini request. Its turns have parts in place of blocks."""
    turns = [turn for turn in body.get("contents") or () if isinstance(turn, dict)]
    parts = [part for part in (turns[-1].get("parts") or () if turns else ()) if isinstance(part, dict)]
    results = [str(part["functionResponse"].get("response")) for part in parts if "functionResponse" in part]
    offered = [tool.get("functionDeclarations") or () for tool in body.get("tools") or () if isinstance(tool, dict)]
    return Prompt(
        text="" if results else " ".join(str(part.get("text") or "") for part in parts).strip(),
        result=" ".join(results),
        tools=[function["name"] for functions in offered for function in functions],
        tokens=max(1, len(orjson.dumps(body)) // _CHARACTERS_A_TOKEN),
    )


def _result(block: Mapping[str, Any]) -> str:
    if block.get("type") == "tool_result":
        holder = block
    elif isinstance(block.get("toolResult"), dict):
        holder = block["toolResult"]
    else:
        return ""
    content = holder.get("content") or "(empty)"
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text") or part.get("json") or "(media)") for part in content)


def _tools(body: Mapping[str, Any]) -> list[str]:
    config = body.get("toolConfig")
    offered = config.get("tools") if isinstance(config, dict) else body.get("tools")
    names = []
    for tool in offered or ():
        inner = tool.get("toolSpec") or tool.get("function") or tool
        if isinstance(inner, dict) and isinstance(inner.get("name"), str) and not inner.get("defer_loading"):
            names.append(inner["name"])
    return names


def tokens(text: str) -> int:
    return max(1, len(text) // _CHARACTERS_A_TOKEN)
