"""Rules for the content of messages in Anthropic's Messages API: blocks, blank texts, images and documents, tool
results, thinking.

The table of rules in `claude.py` contains these rules. The tables of known fields are in `claude_members.py`.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gateway.contract.capabilities import Caps
from gateway.testkit.rules import claude_members
from gateway.testkit.rules import common as rules
from gateway.testkit.rules.claude_members import Platform
from gateway.testkit.rules.common import Block, Body

_IMAGES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_THINKING: Final = frozenset({"thinking", "redacted_thinking"})


class Turn(NamedTuple):
    """Consecutive messages of one role, which Anthropic treats as one turn."""

    number: int
    """The index of the turn's first message in `messages`."""
    role: str
    blocks: list[Block]


def blocks_of(message: Block) -> list[Block]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def turns(body: Body) -> list[Turn]:
    merged: list[Turn] = []
    for number, message in enumerate(body["messages"]):
        if merged and merged[-1].role == message["role"]:
            merged[-1].blocks.extend(blocks_of(message))
        else:
            merged.append(Turn(number, message["role"], [*blocks_of(message)]))
    return merged


def messages(body: Body, caps: Caps, platform: Platform) -> Iterator[str]:
    """Yield faults in the structure of messages and their blocks, such as missing or unknown fields.

    Later rules rely on a correct structure.
    """
    _ = caps
    if not body["messages"]:
        yield "messages: at least one message is required"
    for number, message in enumerate(body["messages"]):
        at = f"messages.{number}"
        yield from claude_members.MESSAGE.faults(message, at)
        if message["role"] not in {"user", "assistant", "system"}:
            yield f"{at}.role: Input should be 'user' or 'assistant'"
        if isinstance(message["content"], list):
            for index, block in enumerate(message["content"]):
                yield from _block(block, f"{at}.content.{index}", platform)


def _block(block: Any, at: str, platform: Platform, only: frozenset[str] | None = None) -> Iterator[str]:
    tag = rules.tag_of(block)
    allowed = only or claude_members.BLOCKS.keys() | platform.other_blocks
    if tag not in allowed:
        yield claude_members.wrong_tag(tag, at, allowed)
        return
    if tag not in claude_members.BLOCKS:
        return
    at = f"{at}.{tag}"
    yield from claude_members.BLOCKS[tag].faults(block, at)
    if tag == "image":
        yield from _image(block["source"], f"{at}.source", platform)
    if tag == "document":
        yield from _source(block["source"], f"{at}.source", platform.document_sources)
    if tag == "tool_result":
        yield from _result(block, at, platform)


def _result(block: Block, at: str, platform: Platform) -> Iterator[str]:
    content = block.get("content")
    if block.get("is_error") and not content:  # aws-samples orchestration#15
        yield f"{at}.content: content cannot be empty if `is_error` is true"
    if isinstance(content, list):
        for index, inner in enumerate(content):
            yield from _block(inner, f"{at}.content.{index}", platform, claude_members.IN_RESULTS)


def _source(source: Block, at: str, allowed: frozenset[str]) -> Iterator[str]:
    tag = rules.tag_of(source)
    if tag not in allowed:
        yield claude_members.wrong_tag(tag, at, allowed)
        return
    yield from claude_members.SOURCES[tag].faults(source, f"{at}.{tag}")
    if tag == "base64" and not _is_base64(source["data"]):
        yield f"{at}.base64.data: Input should be a valid base64 string"


def _is_base64(data: str) -> bool:
    try:
        return bool(binascii.a2b_base64(data, strict_mode=True))
    except ValueError:
        return False


def _image(source: Block, at: str, platform: Platform) -> Iterator[str]:
    yield from _source(source, at, platform.image_sources)
    if rules.tag_of(source) != "base64":
        return
    media_type = source["media_type"]
    if media_type not in _IMAGES:
        yield f"{at}.base64.media_type: Input should be {', '.join(repr(name) for name in _IMAGES)}"
    if rules.mistaken_image(source["data"], media_type.removeprefix("image/")):
        yield f"{at}.base64.data: Image does not match the provided media type {media_type}"


def roles(body: Body, caps: Caps, platform: Platform) -> Iterator[str]:
    _ = platform
    if body["messages"][0]["role"] != "user":
        yield 'messages: first message must use the "user" role'
    for number, role, blocks in turns(body):
        if role == "system" and not caps.mid_system:
            yield (
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter,'
                ' not "system" as an input message role.'
            )
        for block in blocks:
            if claude_members.ROLES.get(block["type"], role) != role:
                owner = claude_members.ROLES[block["type"]]
                yield f"messages.{number}: `{block['type']}` blocks can only be in `{owner}` messages"


def texts(body: Body, caps: Caps, platform: Platform) -> Iterator[str]:
    """Yield a fault for each blank text block and each empty message. Only a final assistant message may be empty."""
    _ = caps, platform
    last = len(body["messages"]) - 1
    for number, message in enumerate(body["messages"]):
        prefill = number == last and message["role"] == "assistant"
        if not message["content"] and not prefill:
            yield (
                f"messages.{number}: all messages must have non-empty content"
                " except for the optional final assistant message"
            )
        if message["content"]:
            yield from blank_texts(blocks_of(message), "messages")


def blank_texts(blocks: list[Block], where: str) -> Iterator[str]:
    for block in blocks:
        text = block["text"] if block["type"] == "text" else "."
        if not text:
            yield f"{where}: text content blocks must be non-empty"
        if rules.is_blank(text):
            yield f"{where}: text content blocks must contain non-whitespace text"
        if block["type"] == "tool_result" and isinstance(block.get("content"), list):
            yield from blank_texts(block["content"], where)


def tool_pairs(body: Body, caps: Caps, platform: Platform) -> Iterator[str]:
    """Yield faults of tool calls and tool results that do not match.

    If a turn has tool calls, the next turn must begin with one result for each call, and may have no other results.
    """
    _ = caps, platform
    waiting: list[str] = []
    before = 0
    for number, _role, blocks in turns(body):
        results = _leading_results(blocks)
        for block in blocks:
            if block["type"] == "tool_result" and block["tool_use_id"] not in waiting:
                yield (
                    f"messages.{number}.content: unexpected `tool_use_id` found in `tool_result` blocks:"
                    f" {block['tool_use_id']}. Each `tool_result` block must have a corresponding `tool_use` block in"
                    " the previous message."
                )
        yield from _unanswered(before, [made for made in waiting if made not in results])
        if len(set(results)) < len(results):
            yield f"messages.{number}.content: each tool_use must have a single result"
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        before = number
        if len(set(waiting)) < len(waiting):
            yield f"messages.{number}.content: `tool_use` ids must be unique"
    yield from _unanswered(before, waiting)


def _leading_results(blocks: list[Block]) -> list[str]:
    results = []
    for block in blocks:
        if block["type"] != "tool_result":
            break
        results.append(block["tool_use_id"])
    return results


def _unanswered(number: int, missing: list[str]) -> Iterator[str]:
    if missing:
        yield (
            f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after:"
            f" {', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the next"
            " message."
        )


def thinking(body: Body, caps: Caps, platform: Platform) -> Iterator[str]:
    """Yield faults of thinking blocks, which a client sends back from earlier replies (RooCode#11238).

    An assistant turn with thinking must begin with thinking, unless it calls server tools. It must not end with
    thinking. If the model signs its thinking, the signature must come from the simulator.
    """
    _ = platform
    for number, role, blocks in turns(body):
        kinds = [block["type"] for block in blocks]
        if role == "assistant" and _THINKING.intersection(kinds):
            if kinds[0] not in _THINKING and "server_tool_use" not in kinds:
                yield _expected_thinking(number, kinds[0])
            if kinds[-1] in _THINKING:
                yield f"messages.{number}: The final block in an assistant message cannot be `thinking`."
        for index, block in enumerate(blocks):
            yield from _signed(block, f"messages.{number}.content.{index}", caps)
    yield from _tool_loop(body)


def _expected_thinking(number: int, kind: str) -> str:
    return (
        f"messages.{number}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When"
        " `thinking` is enabled, a final `assistant` message must start with a thinking block."
    )


def _signed(block: Block, at: str, caps: Caps) -> Iterator[str]:
    if block["type"] == "thinking" and caps.signed_reasoning and rules.bad_signature(block["signature"]):
        yield f"{at}: Invalid `signature` in `thinking` block"
    if block["type"] == "redacted_thinking" and not _is_base64(block["data"]):
        yield f"{at}: Invalid `data` in `redacted_thinking` block"


def _tool_loop(body: Body) -> Iterator[str]:
    """Yield a fault if the last turn begins with tool results, and the turn before it does not begin with thinking.

    This rule applies only to a request with a thinking budget and without the beta for interleaved thinking.
    """
    thinking: Mapping[str, Any] = body.get("thinking") or {}
    merged = turns(body)
    if thinking.get("type") != "enabled" or rules.interleaves(body.get("anthropic_beta")):
        return
    if len(merged) < 2 or not _leading_results(merged[-1].blocks):
        return
    kind = merged[-2].blocks[0]["type"]
    if kind not in _THINKING:
        yield _expected_thinking(merged[-2].number, kind)
