"""Builds the messages of a request that is translated to Converse, so that Bedrock accepts them.

The translation passes each message of the client as a `Turn`, with Converse blocks and the client's tool ids. `arrange`
makes the value of `messages` from the turns. The rules are the same for all clients' dialects. They depend on the
model only through its capabilities (`Caps`). Tools and parameters are in `tools.py` and `options.py`.

Sources: botocore's service model, recorded traffic, and the issues of other projects that the docstrings name.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.fields import decoded
from gateway_plugins.shared.inline_reasoning import original_text
from gateway_plugins.shared.media import Media
from gateway_plugins.shared.reasoning import Maker, Reasoning
from gateway_plugins.shared.tools import ToolIds
from gateway_plugins.shared.turns import (
    CONTINUE,
    NO_OUTPUT,
    NO_RESULT,
    Block,
    Located,
    Turn,
    native_at_end,
    pointer,
    reminder,
    side,
)

FILLER: Final = "."
"""Text of a turn that the gateway adds where Bedrock requires one. In recorded traffic, models ignore this text."""
ATTACHED: Final = "(attached)"
"""Text for a message that has a document but no text. Bedrock refuses such a message (archestra#4220)."""

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9\-()\[\] ]+")
_EXTENSION: Final = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")
"""Pattern for the extension of a file name. It does not match the dot in "Dr. Who" or "Release 1.2"."""
_TEXT_FORMATS: Final = frozenset({"txt", "csv", "md", "html"})
"""Formats of plain-text documents. Some models accept only plain-text documents in tool results."""
_MAX_NAME: Final = 190
"""Maximum length of a document's name in characters, without a suffix such as " (2)". Bedrock allows 200 with the
suffix."""


def is_blank(block: Block) -> bool:
    """Return whether a block is a text without a visible character. Bedrock refuses such a block (hermes#63983)."""
    return "text" in block and not block["text"].strip()


def media_block(media: Media, names: DocumentNames, caps: Caps, param: str) -> Block:
    """Return an image, document or audio block.

    Raises `Refused`, naming the client's field `param`, if the model does not accept the file.
    """
    offered = {"image": caps.images, "document": caps.documents, "audio": True}
    if not offered[media.kind]:
        raise invalid(f"{param}: this model takes no {media.kind}s", param)
    inner: Block = {"format": media.format, "source": {"bytes": media.base64}}
    if media.kind == "document":
        inner["name"] = names.take(media.name)
    return {media.kind: inner}


class DocumentNames:
    """Names of the documents in one request, as Bedrock accepts them (bifrost#7003, opencode#19964).

    A name has only the characters that Bedrock allows, has no extension, and is unique in the request.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, filename: str) -> str:
        stem = _EXTENSION.sub("", filename) or filename
        base = " ".join(_NOT_IN_NAMES.sub(" ", stem).split())[:_MAX_NAME].strip() or "Document"
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base} ({count})"
        self._taken.add(name)
        return name


def arrange(turns: Iterable[Turn], caps: Caps, drop: Drop, *, prefill: bool) -> list[Block]:
    """Return the value of `messages`.

    - The roles user and assistant alternate.
    - The user's message after a tool call has the result of the call.
    - If the last turn is the assistant's, a user message is added. Exception: if `prefill` is true and the turn has no
      tool calls, the turn stays the last one, and the model continues it.
    """
    runs = _runs(turns, drop)
    if not runs or (runs[0][0] == "assistant" and not caps.leading_assistant):
        runs.insert(0, ("user", [Turn("user", [{"text": FILLER}], "/messages")]))
    if runs[-1][0] == "assistant":
        if _calls(runs[-1][1]):
            runs.append(("user", []))
        elif not prefill:
            drop(runs[-1][1][-1].path)
            runs.append(("user", [Turn("user", [{"text": CONTINUE}], "/messages")]))
    ids = ToolIds(caps.tool_id_alphanumeric)
    messages: list[Block] = []
    for role, run in runs:
        messages += [_assistant(run, ids)] if role == "assistant" else _user(run, ids, caps)
    for message in messages:
        message["content"] = place_cache_points(message["content"], drop)
    if messages[-1]["role"] == "assistant":
        _strip_end(messages[-1]["content"])
    return messages


def _runs(turns: Iterable[Turn], drop: Drop) -> list[tuple[str, list[Turn]]]:
    """Group consecutive turns: those of the assistant, and those of the user or the system.

    Return (side, turns) for each group. Blank blocks are removed. Turns that have only cache points, or no blocks at
    all, are removed too.
    """
    filled = []
    for turn in turns:
        turn.blocks = [block for block in turn.blocks if not is_blank(block)]
        if turn.role == "assistant":
            _drop_last_thinking(turn, drop)
        if any("cachePoint" not in block for block in turn.blocks):
            filled.append(turn)
        else:
            turn.blocks = place_cache_points(turn.blocks, drop)
    return [(whose, list(run)) for whose, run in groupby(filled, side)]


def _drop_last_thinking(turn: Turn, drop: Drop) -> None:
    """Remove thinking from the end of an assistant's turn. Bedrock refuses thinking there."""
    if not any("reasoningContent" in block for block in turn.blocks):
        return
    answers = [
        index for index, block in enumerate(turn.blocks) if not ("reasoningContent" in block or "cachePoint" in block)
    ]
    end = answers[-1] + 1 if answers else 0
    for block in turn.blocks[end:]:
        if "reasoningContent" in block:
            drop(pointer(block, turn.path))
    turn.blocks = [block for index, block in enumerate(turn.blocks) if index < end or "cachePoint" in block]


def _calls(run: Sequence[Turn]) -> bool:
    return any("toolUse" in block for turn in run for block in turn.blocks)


def _strip_end(content: list[Block]) -> None:
    """Remove white space from the end of the assistant's last message. Bedrock refuses white space there."""
    if "text" in content[-1]:
        content[-1]["text"] = content[-1]["text"].rstrip()


def _assistant(run: Sequence[Turn], ids: ToolIds) -> Block:
    ids.assistant_turn()
    content = [block for turn in run for block in turn.blocks]
    for block in content:
        if "toolUse" in block:
            block["toolUse"]["toolUseId"] = ids.call(block["toolUse"]["toolUseId"])
    return {"role": "assistant", "content": content}


def _user(run: Sequence[Turn], ids: ToolIds, caps: Caps) -> list[Block]:
    """Return the messages for consecutive turns of the user and the system.

    - Normally this is one user message, with the tool results first (camel#3954).
    - If the model refuses other blocks beside tool results, the message is split in two.
    - If the model accepts system messages within a conversation, the system turns at the end of `run` become a system
      message after the user's messages.
    """
    results: list[Block] = []
    others: list[Block] = []
    last = len(run) - native_at_end(run, mid_system=caps.mid_system, waiting=ids.waiting)
    for turn in run[:last]:
        to = others
        for block in turn.blocks:
            if "toolResult" in block:
                to = results
                results += [block] if ids.answer(block["toolResult"], "toolUseId", pointer(block, turn.path)) else []
            elif "cachePoint" in block:
                to.append(block)  # the cache point stays after the same block as in the client's message
            else:
                to = others
                others.append(_reminder(block) if turn.role == "system" else block)
    results += [_missing(made) for made in ids.unanswered()]
    beside = [moved for block in results if "toolResult" in block for moved in _suited(block["toolResult"], caps)]
    messages = _split(results, beside + others, caps)
    if last < len(run):
        messages.append({"role": "system", "content": [block for turn in run[last:] for block in turn.blocks]})
    return messages


def _reminder(block: Block) -> Block:
    return {"text": reminder(block["text"])} if "text" in block else block


def _missing(made: str) -> Block:
    return {"toolResult": {"toolUseId": made, "content": [{"text": NO_RESULT}], "status": "error"}}


def _suited(result: Block, caps: Caps) -> list[Block]:
    """Change a tool result so that the model accepts it.

    Return the removed files, which the model does not accept inside a tool result. The caller must add them after all
    results.
    """
    content = [block for block in result["content"] if not is_blank(block)]
    beside = [block for block in content if not _fits_result(block, caps)]
    if beside:
        content = [block for block in content if _fits_result(block, caps)]
        content.append({"text": "(see the attached files)"})
    content = content or [{"text": NO_OUTPUT}]
    result["content"] = [_as_json(block) for block in content] if caps.tool_result_json else content
    if not caps.tool_result_status:
        result.pop("status", None)
    return beside


def _fits_result(block: Block, caps: Caps) -> bool:
    """Return whether the model accepts a block inside a tool result."""
    if "image" in block:
        return caps.tool_result_images
    if "document" in block:
        formats = {"all": None, "text": _TEXT_FORMATS, "none": frozenset[str]()}[caps.tool_result_documents]
        return formats is None or block["document"]["format"] in formats
    return True


def _as_json(block: Block) -> Block:
    if "text" not in block:
        return block
    try:
        value = decoded(block["text"])
    except ValueError:
        value = None
    return {"json": value if isinstance(value, dict) else {"output": block["text"]}}


def _split(results: list[Block], others: list[Block], caps: Caps) -> list[Block]:
    """Return the tool results and the other blocks in one user message, or in two with an assistant message between.

    Some model families refuse other blocks beside tool results (pydantic-ai#6081, langchain-aws#141). Claude refuses
    documents beside tool results.
    """
    others = _with_text(others)
    apart = caps.tool_result_alone or any("document" in block for block in others)
    if results and apart and any("cachePoint" not in block for block in others):
        turns = [("user", results), ("assistant", [{"text": FILLER}]), ("user", others)]
    else:
        turns = [("user", results + others)]
    return [{"role": role, "content": content} for role, content in turns]


def _with_text(content: list[Block]) -> list[Block]:
    if any("document" in block for block in content) and not any("text" in block for block in content):
        return [{"text": ATTACHED}, *content]
    return content


class CachePoint(Block):
    """A `cachePoint` block. `path` is the JSON pointer of the client's breakpoint."""

    def __init__(self, ttl: str, path: str) -> None:
        super().__init__(cachePoint={"type": "default", "ttl": ttl} if ttl else {"type": "default"})
        self.path = path


class CacheBreakpoints:
    """Writes the cache points of one request. Cache points that the model or Bedrock would refuse are left out."""

    MAX: Final = 4
    """Maximum number of cache points in one request. Bedrock refuses more."""

    def __init__(self, caps: Caps, drop: Drop) -> None:
        self._caps = caps
        self._drop = drop

    def mark(self, blocks: list[Block], ttl: str | None, path: str, *, tool: bool = False) -> None:
        """Append a cache point to `blocks`, or report it as dropped if the model does not accept it.

        - If `ttl` is None, the client set no breakpoint, and nothing happens.
        - `path` is the JSON pointer of the client's breakpoint.
        - `tool` is true if `blocks` are tools. Some models accept cache points only there, or only elsewhere.
        """
        if ttl is None:
            return
        if not blocks or not (self._caps.tool_cache_points if tool else self._caps.cache_points):
            self._drop(path)
            return
        if ttl == "1h" and not self._caps.cache_ttl:
            self._drop(f"{path}/ttl")  # without a ttl the lifetime is 5m
        blocks.append(CachePoint(ttl if self._caps.cache_ttl else "", path))

    def mark_last(self, turns: Sequence[Turn], ttl: str | None) -> None:
        """Append a cache point to the last turn with blocks, unless this turn already ends with a cache point.

        `ttl` is the lifetime of the cache entry. If `ttl` is None, nothing happens.
        """
        blocks = next((turn.blocks for turn in reversed(turns) if turn.blocks), [])
        if not (blocks and isinstance(blocks[-1], CachePoint)):
            self.mark(blocks, ttl, "/cache_control")

    def limit(self, tools: list[Block], system: list[Block], messages: list[Block]) -> None:
        """Remove cache points until at most `MAX` are left, and shorten lifetimes that Bedrock would refuse.

        The earliest cache points in the messages are removed first, because a later cache point covers everything
        before it. A lifetime of 1h is changed to 5m if a lifetime of 5m comes before it, because Bedrock refuses this
        order.
        """
        contents = [message["content"] for message in messages]
        points = [*((content, block) for content in contents for block in content if isinstance(block, CachePoint))]
        points += [(part, block) for part in (system, tools) for block in part if isinstance(block, CachePoint)]
        for content, point in points[: max(0, len(points) - self.MAX)]:
            content[:] = [block for block in content if block is not point]
            self._drop(point.path)
        shortest = False
        for point in (block for part in (tools, system, *contents) for block in part if isinstance(block, CachePoint)):
            if shortest and point["cachePoint"].get("ttl") == "1h":
                point["cachePoint"] = {"type": "default"}
                self._drop(f"{point.path}/ttl")
            shortest = shortest or point["cachePoint"].get("ttl") != "1h"


def place_cache_points(content: list[Block], drop: Drop) -> list[Block]:
    """Return the blocks, with each cache point at a position where Bedrock accepts it (opencode#17300).

    A cache point must not directly follow thinking, or a document that is not a PDF. A cache point after such blocks
    is moved before them. If the moved cache point would be the first block, or follow another cache point, it is
    removed and reported as dropped.
    """
    placed: list[Block] = []
    for block in content:
        if not isinstance(block, CachePoint):
            placed.append(block)
            continue
        at = len(placed)
        while at and _takes_no_point(placed[at - 1]):
            at -= 1
        if at and "cachePoint" not in placed[at - 1]:
            placed.insert(at, block)
        else:
            drop(block.path)
    return placed


def _takes_no_point(block: Block) -> bool:
    return "reasoningContent" in block or ("document" in block and block["document"]["format"] != "pdf")


def is_unsigned_loop(turns: Sequence[Turn]) -> bool:
    """Return whether the last assistant turn calls tools and does not begin with thinking.

    This means that the client did not send the thinking back. After such a turn, a model with a thinking budget refuses
    to think (RooCode#11238).
    """
    first: list[Block] = []
    calls = False
    for turn in reversed(turns):
        if turn.role == "assistant":
            first = turn.blocks or first
            calls = calls or any("toolUse" in block for block in turn.blocks)
        elif first:
            break
    return calls and "reasoningContent" not in first[0]


def thinking_blocks(thinking: Reasoning, caps: Caps, maker: Maker, drop: Drop) -> list[Block]:
    """Return the blocks for the thinking of an earlier turn.

    - The tag that the gateway put before the signature, with the name of the model family, is removed.
    - If the model wrote its thinking as text, such as between `<think>` tags, the thinking becomes text again.
    - Thinking of another model family, and thinking with neither signature nor data, is reported as dropped.
    - Thinking is also reported as dropped if the model does not accept it.
    """
    if (written := original_text(thinking, maker)) is not None:
        return [{"text": written}]
    accepts = caps.redacted_reasoning if thinking.data else caps.signed_reasoning
    own = maker.untagged(thinking.data or thinking.signature)
    if not accepts or not own:
        drop(thinking.at)
        return []
    inner: Block = {"reasoningText": {"text": thinking.text, "signature": own}}
    if thinking.data:
        # encoded in base64 as in Converse's replies, although Anthropic's data is base64 text already
        inner = {"redactedContent": b64encode(own.encode("latin-1", "replace")).decode()}
    return [Located(thinking.at, {"reasoningContent": inner})]
