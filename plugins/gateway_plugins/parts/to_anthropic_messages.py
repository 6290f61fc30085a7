"""What the Messages dialect demands of every translator that ends in it: turn rules, tools, cache marks.

A translator maps its client's messages to `Turn`s of Messages blocks, with the client's own tool ids; `arrange` makes
of them what the API takes. Nothing here knows the client's dialect, and nothing here depends on a model but through
its capabilities. Sources: Anthropic's API reference; the defects of peers named beside the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby
from typing import Any, Final

from gateway.errors import invalid
from gateway.flag import Caps, Drop
from gateway_plugins.parts.read_openai_chat import Ttl, param

Block = dict[str, Any]

CONTINUE: Final = "Continue."
"""Text of a user turn that the API demands and the client did not write."""
NO_OUTPUT: Final = "(no output)"
"""A tool's result may not be blank, and a space does not do (hermes#55092, hermes#39829)."""
NO_RESULT: Final = "No result was given for this tool call."

MAX_MARKS: Final = 4
"""Cache breakpoints in one request."""
_USUAL_TTL: Final = "5m"
_THINKING: Final = ("thinking", "redacted_thinking")
_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(slots=True)
class Turn:
    """What one message of the client contributes. `role` is user, assistant or system; tool results are the user's."""

    role: str
    blocks: list[Block]
    path: str
    """JSON pointer of the client's message."""


def text(value: str) -> Block:
    return {"type": "text", "text": value}


def is_blank(block: Block) -> bool:
    """A text block without a visible character, which the API refuses."""
    return block.get("type") == "text" and not block["text"].strip()


def arrange(turns: Iterable[Turn], caps: Caps, drop: Drop, *, prefill: bool) -> list[Block]:
    """The `messages` member: roles alternate, the user begins, each tool call is answered in the very next turn.

    `prefill` says whether the last turn may be the assistant's (never while the model thinks).
    """
    runs = _runs(turns, drop)
    if not runs or (runs[0][0] == "assistant" and not caps.leading_assistant):
        runs.insert(0, ("user", [Turn("user", [text(CONTINUE)], "/messages")]))
    if runs[-1][0] == "assistant" and (not prefill or _calls(runs[-1][1])):
        # Claude 4.6 and later refuse to continue a turn (kortix#6489); in other dialects it never meant that anyway
        runs.append(("user", [] if _calls(runs[-1][1]) else [Turn("user", [text(CONTINUE)], "/messages")]))
    ids = _Ids()
    messages: list[Block] = []
    for role, run in runs:
        messages += [_assistant(run, ids)] if role == "assistant" else _user(run, ids, caps)
    if messages[-1]["role"] == "assistant":
        _strip_end(messages[-1]["content"])
    return messages


def _runs(turns: Iterable[Turn], drop: Drop) -> list[tuple[str, list[Turn]]]:
    """Turns of one side after the other, without what is blank; a system turn belongs to the user's side."""
    kept = []
    for turn in turns:
        turn.blocks = [block for block in turn.blocks if not is_blank(block)]
        if turn.blocks:
            kept.append(turn)
    runs: list[tuple[str, list[Turn]]] = []
    for side, group in groupby(kept, lambda turn: "assistant" if turn.role == "assistant" else "user"):
        run = list(group)
        if side == "assistant" and _without_last_thinking(run, drop) == 0:
            continue
        if runs and runs[-1][0] == side:
            runs[-1][1].extend(run)
        else:
            runs.append((side, run))
    return runs


def _without_last_thinking(run: list[Turn], drop: Drop) -> int:
    """Take away thinking that nothing follows, which the API refuses; returns how many blocks are left."""
    while run and run[-1].blocks[-1]["type"] in _THINKING:
        run[-1].blocks.pop()
        drop(f"{run[-1].path}/thinking_blocks")
        if not run[-1].blocks:
            run.pop()
    return len(run)


def _calls(run: Sequence[Turn]) -> bool:
    return any(block["type"] == "tool_use" for turn in run for block in turn.blocks)


def _strip_end(blocks: list[Block]) -> None:
    """A turn to be continued may not end in white space."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()


@dataclass(slots=True)
class _Ids:
    """Tool ids: valid, unique over the conversation, and the same in every request of it.

    Some servers number their calls anew in each turn (call_0, call_1); the API refuses an id that comes twice.
    """

    used: set[str] = field(default_factory=set)
    open: dict[str, list[str]] = field(default_factory=dict)
    """The client's id to those of its calls that wait for a result."""
    results: dict[str, Block] = field(default_factory=dict)
    """The client's id to the result that has come for it in this turn."""

    def call(self, given: str) -> str:
        made = tool_id(given)
        count = 1
        while made in self.used:
            count += 1
            made = tool_id(f"{given}#{count}")
        self.used.add(made)
        self.open.setdefault(given, []).append(made)
        return made


def tool_id(given: str) -> str:
    """An id as the API takes it; one that it does not take becomes a hash, so that a call and its result stay a pair
    (fabro#707).
    """
    if _ID.fullmatch(given):
        return given
    return "call_" + blake2b(given.encode(), digest_size=12).hexdigest()


def _assistant(run: Sequence[Turn], ids: _Ids) -> Block:
    ids.open.clear()
    content = [block for turn in run for block in turn.blocks]
    for block in content:
        if block["type"] == "tool_use":
            block["id"] = ids.call(block["id"])
    return {"role": "assistant", "content": content}


def _user(run: Sequence[Turn], ids: _Ids, caps: Caps) -> list[Block]:
    """One user turn, results first, and the system's message behind it where the model takes one there."""
    ids.results.clear()
    results: list[Block] = []
    content: list[Block] = []
    last = len(run) - _native_at_end(run, ids, caps)
    for turn in run[:last]:
        for block in turn.blocks:
            if block["type"] == "tool_result":
                _result(block, turn, ids, results)
            else:
                content.append(_reminder(block) if turn.role == "system" else block)
    results += [_missing(made) for waiting in ids.open.values() for made in waiting]
    ids.open.clear()
    messages: list[Block] = [{"role": "user", "content": results + content}]
    if last < len(run):
        messages.append({"role": "system", "content": [block for turn in run[last:] for block in turn.blocks]})
    return messages


def _native_at_end(run: Sequence[Turn], ids: _Ids, caps: Caps) -> int:
    """How many turns at the end go out as one system message.

    It must follow a user turn and be followed by the assistant or nothing, and two in a row are refused
    (maximhq/bifrost#3945): only the system turns that end the user's side can be one.
    """
    count = 0
    if caps.mid_system:
        for turn in reversed(run):
            if turn.role != "system":
                break
            count += 1
    return count if count < len(run) or ids.open else 0


def _reminder(block: Block) -> Block:
    """System text in place, as Claude Code writes it: hoisting it would spoil the cached prefix (bifrost#5931)."""
    if block["type"] == "text":
        block["text"] = f"<system-reminder>\n{block['text']}\n</system-reminder>"
    return block


def _result(block: Block, turn: Turn, ids: _Ids, results: list[Block]) -> None:
    given = block["tool_use_id"]
    waiting = ids.open.get(given)
    if waiting:
        block["tool_use_id"] = waiting.pop(0)
        ids.results[given] = block
        results.append(block)
    elif given in ids.results:
        ids.results[given]["content"] = [*ids.results[given]["content"], *block["content"]]
    else:
        name = f"{param(turn.path)}.tool_call_id"
        raise invalid(f'{name}: "{given}" answers no tool call of the assistant message before it', name)


def _missing(made: str) -> Block:
    return {"type": "tool_result", "tool_use_id": made, "content": [text(NO_RESULT)], "is_error": True}


class Names:
    """Tool names as the API takes them, and back again in replies (bifrost#3788: MCP names over 64 characters)."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}

    def alias(self, given: str) -> str:
        if _ID.fullmatch(given):
            return given
        stem = re.sub(r"[^a-zA-Z0-9_-]+", "_", given)[:47]
        made = f"{stem}_{blake2b(given.encode(), digest_size=8).hexdigest()}"
        self._given[made] = given
        return made

    def restore(self, made: str) -> str:
        return self._given.get(made, made)


def tool_schema(schema: Any, name: str, path: str) -> Block:
    """A tool's `input_schema`: an object at its root, without anyOf, oneOf, allOf or a reference there (pi#8279).

    What such a root combines is folded into one object: too wide a schema still lets every right call through.
    """
    if schema is None:
        return {"type": "object", "properties": {}}
    if not isinstance(schema, dict):
        raise invalid(f'{path}: the schema of tool "{name}" must be an object', path)
    folded = _folded(schema, schema)
    if folded.get("type") not in {None, "object", "custom"} and "object" not in folded["type"]:
        raise invalid(f'{path}: the schema of tool "{name}" has type {folded["type"]!r}; it must be "object"', path)
    folded["type"] = "object"
    folded["properties"] = folded.get("properties") or {}  # null is refused (bifrost#1720)
    return folded


def _folded(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Block:
    """The schema without combinations at its root. The depth bounds a reference that leads to itself."""
    own = {key: value for key, value in schema.items() if key not in {"anyOf", "oneOf", "allOf", "$ref", "$schema"}}
    if depth > 8:
        return own
    parts = [(part, True) for part in _objects(schema.get("allOf"))]
    parts += [(part, False) for key in ("anyOf", "oneOf") for part in _objects(schema.get(key))]
    if (target := _referred(schema.get("$ref"), root)) is not None:
        parts.append((target, True))
    for part, demanded in parts:
        inner = _folded(part, root, depth + 1)
        own["properties"] = {**(inner.get("properties") or {}), **(own.get("properties") or {})}
        if demanded and inner.get("required"):
            own["required"] = list(dict.fromkeys([*own.get("required", ()), *inner["required"]]))
        if not demanded:  # each of them may forbid what the other one has
            own.pop("additionalProperties", None)
    return own


def _objects(value: Any) -> list[Block]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _referred(reference: Any, root: Mapping[str, Any]) -> Block | None:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    found: Any = root
    for step in reference[2:].split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


class Marks:
    """Cache breakpoints on blocks: what the model takes of each, and no more than the API takes of all."""

    def __init__(self, caps: Caps, drop: Drop) -> None:
        self._caps = caps
        self._drop = drop
        self._marked: dict[str, list[tuple[Block, str]]] = {"tools": [], "system": [], "messages": []}

    def put(self, ttl: Ttl, blocks: Sequence[Block], section: str, path: str) -> None:
        """Mark the last of the blocks that can carry a mark; thinking and blank text cannot."""
        if ttl is None:
            return
        able = [block for block in blocks if block.get("type") not in _THINKING and not is_blank(block)]
        allowed = self._caps.tool_cache_points if section == "tools" else self._caps.cache_points
        if not able or not allowed:
            self._drop(path)
            return
        if ttl and not self._caps.cache_ttl:
            if ttl != _USUAL_TTL:
                self._drop(f"{path}/ttl")
            ttl = ""
        if "cache_control" not in able[-1]:
            self._marked[section].append((able[-1], path))
        able[-1]["cache_control"] = {"type": "ephemeral", "ttl": ttl} if ttl else {"type": "ephemeral"}

    def limit(self) -> None:
        """Of too many marks the earliest in the messages go: later ones cover what those covered."""
        excess = sum(map(len, self._marked.values())) - MAX_MARKS
        for section in ("messages", "system", "tools"):
            for block, path in self._marked[section][: max(0, excess)]:
                del block["cache_control"]
                self._drop(path)
                excess -= 1
