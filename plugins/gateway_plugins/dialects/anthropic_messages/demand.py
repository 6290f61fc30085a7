"""Builds the messages of a request that is translated to Messages, so that Anthropic's API accepts them.

The translation passes each message of the client as a `Turn`, with Messages blocks and the client's tool ids. `arrange`
makes the value of `messages` from the turns. The rules are the same for all clients' dialects. They depend on the
model only through its capabilities (`Caps`).

Sources: Anthropic's API reference, and the issues of other gateways that the docstrings name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from gateway.contract.flag import Caps, Drop
from gateway_plugins.shared.fields import Ttl
from gateway_plugins.shared.inline_reasoning import original_text
from gateway_plugins.shared.reasoning import Maker, Reasoning
from gateway_plugins.shared.tools import ToolIds
from gateway_plugins.shared.turns import (
    CONTINUE,
    NO_RESULT,
    Block,
    Located,
    Turn,
    native_at_end,
    pointer,
    reminder,
    side,
)

MAX_CACHE_BREAKPOINTS: Final = 4
"""Maximum number of cache breakpoints in one request. The API refuses more."""
_USUAL_TTL: Final = "5m"
THINKING: Final = ("thinking", "redacted_thinking")
"""Types of blocks with thinking."""


def text(value: str) -> Block:
    return {"type": "text", "text": value}


def is_blank(block: Block) -> bool:
    """Return whether a block is a text of only white space. The API refuses such a block."""
    return block.get("type") == "text" and not block["text"].strip()


def arrange(turns: Iterable[Turn], caps: Caps, drop: Drop, *, prefill: bool) -> list[Block]:
    """Return the value of `messages` for these turns.

    - User and assistant alternate, and the user begins.
    - Each tool call has its result in the next user message.
    - If the last turn is the assistant's, a user message is added. Exception: if `prefill` is true and the turn has no
      tool calls, the turn stays the last one, and the model continues it.
    """
    runs = _runs(turns, drop)
    if not runs or runs[0][0] == "assistant":  # Claude accepts an assistant's first turn on Converse, but not here
        runs.insert(0, ("user", [Turn("user", [text(CONTINUE)], "/messages")]))
    if runs[-1][0] == "assistant" and (not prefill or _calls(runs[-1][1])):
        if not _calls(runs[-1][1]):
            drop(runs[-1][1][-1].path)
        # Claude 4.6 and later refuse to continue a turn (kortix#6489); other dialects have no such continuation
        runs.append(("user", [] if _calls(runs[-1][1]) else [Turn("user", [text(CONTINUE)], "/messages")]))
    ids = ToolIds()
    messages: list[Block] = []
    for role, run in runs:
        messages += [_assistant(run, ids)] if role == "assistant" else _user(run, ids, caps)
    if messages[-1]["role"] == "assistant":
        _strip_end(messages[-1]["content"])
    return messages


def is_unsigned_loop(messages: Sequence[Block]) -> bool:
    """Return whether the last message has tool results, and the assistant message before it begins without thinking.

    System messages are ignored.
    """
    turns = [message for message in messages if message["role"] != "system"]
    if turns[-1]["role"] != "user" or turns[-1]["content"][0]["type"] != "tool_result":
        return False
    return turns[-2]["content"][0]["type"] not in THINKING


def _runs(turns: Iterable[Turn], drop: Drop) -> list[tuple[str, list[Turn]]]:
    """Group consecutive turns: those of the assistant, and those of the user or the system.

    Return (side, turns) for each group. Blank blocks, thinking at the end of an assistant's group, and turns without
    blocks are removed.
    """
    filled = []
    for turn in turns:
        turn.blocks = [block for block in turn.blocks if not is_blank(block)]
        if turn.blocks:
            filled.append(turn)
    runs: list[tuple[str, list[Turn]]] = []
    for whose, group in groupby(filled, side):
        run = list(group)
        if whose == "assistant" and _without_last_thinking(run, drop) == 0:
            continue
        if runs and runs[-1][0] == whose:
            runs[-1][1].extend(run)
        else:
            runs.append((whose, run))
    return runs


def _without_last_thinking(run: list[Turn], drop: Drop) -> int:
    """Remove thinking from the end of `run`, a group of assistant turns, because the API refuses thinking there.

    A turn that has only thinking is removed from `run`. Return the number of turns that remain.
    """
    while run and run[-1].blocks[-1]["type"] in THINKING:
        drop(pointer(run[-1].blocks.pop(), run[-1].path))
        if not run[-1].blocks:
            run.pop()
    return len(run)


def _calls(run: Sequence[Turn]) -> bool:
    return any(block["type"] == "tool_use" for turn in run for block in turn.blocks)


def _strip_end(blocks: list[Block]) -> None:
    """Remove white space from the end of a turn that the model continues. The API refuses white space there."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()


def _assistant(run: Sequence[Turn], ids: ToolIds) -> Block:
    ids.assistant_turn()
    content = [block for turn in run for block in turn.blocks]
    for block in content:
        if block["type"] == "tool_use":
            block["id"] = ids.call(block["id"])
    return {"role": "assistant", "content": content}


def _user(run: Sequence[Turn], ids: ToolIds, caps: Caps) -> list[Block]:
    """Return the messages for consecutive turns of the user and the system.

    - The first message is a user message that begins with the tool results.
    - If the model accepts a system message after it, the system turns at the end of `run` become a second message.
    - Any other system turn becomes text in the user message (`reminder`).
    """
    results: list[Block] = []
    content: list[Block] = []
    last = len(run) - native_at_end(run, mid_system=caps.mid_system, waiting=ids.waiting)
    for turn in run[:last]:
        for block in turn.blocks:
            if block["type"] == "tool_result":
                results += [block] if ids.answer(block, "tool_use_id", pointer(block, turn.path)) else []
            else:
                content.append(_reminder(block) if turn.role == "system" else block)
    results += [_missing(made) for made in ids.unanswered()]
    messages: list[Block] = [{"role": "user", "content": results + content}]
    if last < len(run):
        messages.append({"role": "system", "content": [block for turn in run[last:] for block in turn.blocks]})
    return messages


def _reminder(block: Block) -> Block:
    if block["type"] == "text":
        block["text"] = reminder(block["text"])
    return block


def _missing(made: str) -> Block:
    return {"type": "tool_result", "tool_use_id": made, "content": [text(NO_RESULT)], "is_error": True}


class CacheBreakpoints:
    """Writes cache breakpoints on blocks.

    Breakpoints that the model does not accept, or that exceed the API's limit for one request, are reported as dropped.
    """

    def __init__(self, caps: Caps, drop: Drop) -> None:
        self._caps = caps
        self._drop = drop
        self._marked: dict[str, list[tuple[Block, str]]] = {"tools": [], "system": [], "messages": []}

    def put(self, ttl: Ttl, blocks: Sequence[Block], section: str, path: str) -> None:
        """Put a breakpoint on the last of the `blocks` that can have one. Thinking and blank text cannot have one.

        `section` is tools, system or messages. `path` is the JSON pointer of the client's breakpoint.
        """
        if ttl is None:
            return
        able = [block for block in blocks if block.get("type") not in THINKING and not is_blank(block)]
        allowed = self._caps.tool_cache_points if section == "tools" else self._caps.cache_points
        if not able or not allowed:
            self._drop(path)
            return
        if ttl and not self._caps.cache_ttl:
            if ttl != _USUAL_TTL:
                self._drop(f"{path}/ttl")
            ttl = ""
        made = {"type": "ephemeral", "ttl": ttl} if ttl else {"type": "ephemeral"}
        if (own := able[-1].setdefault("cache_control", made)) is made:
            self._marked[section].append((able[-1], path))
        elif own != made:  # the block keeps its first lifetime, which was set nearer to the block
            self._drop(path)

    def limit(self) -> None:
        """Remove the breakpoints that exceed the limit, and shorten lifetimes that the API would refuse.

        The earliest breakpoints in the messages are removed first, because a later breakpoint covers everything before
        it. A lifetime of one hour is shortened if a shorter lifetime comes before it.
        """
        excess = sum(map(len, self._marked.values())) - MAX_CACHE_BREAKPOINTS
        for section in ("messages", "system", "tools"):
            for block, path in self._marked[section][: max(0, excess)]:
                del block["cache_control"]
                self._drop(path)
                excess -= 1
        self._order()

    def _order(self) -> None:
        shorter = False
        for block, path in (each for name in ("tools", "system", "messages") for each in self._marked[name]):
            mark = block.get("cache_control", {})
            if shorter and mark.get("ttl") == "1h":
                del mark["ttl"]
                self._drop(f"{path}/ttl")
            shorter = shorter or ("cache_control" in block and mark.get("ttl") != "1h")


def thinking_blocks(thinking: Reasoning, caps: Caps, maker: Maker, drop: Drop) -> list[Block]:
    """Return the blocks for the thinking of an earlier turn.

    - The tag that the gateway put before the signature, with the name of the model family, is removed.
    - If the model wrote its thinking as text, such as between `<think>` tags, the thinking becomes text again.
    - Thinking is reported as dropped if another model family wrote it, or if the model does not accept it.
    - Unsigned thinking is also reported as dropped if the model signs its thinking.
    """
    if (written := original_text(thinking, maker)) is not None:
        return [text(written)]
    own = maker.untagged(thinking.data or thinking.signature)
    if thinking.data and own and caps.redacted_reasoning:
        return [Located(thinking.at, {"type": "redacted_thinking", "data": own})]
    accepts = own if caps.signed_reasoning else own is not None and maker.unsigned
    if thinking.data or not accepts:
        drop(thinking.at)
        return []
    return [Located(thinking.at, {"type": "thinking", "thinking": thinking.text, "signature": own})]
