"""Rules for Messages bodies, on api.anthropic.com and on Bedrock's InvokeModel.

Single fields are checked first, by the tables in `claude_members.py`. Rules about several fields follow. Differences
between models come from the capabilities of the model. The wording of a fault is Anthropic's if a source shows it.

If no source shows that the real service refuses a body, it is accepted. Consecutive messages of one role are accepted,
because Anthropic treats them as one turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from gateway.contract.capabilities import Caps
from gateway.testkit.rules import claude_blocks as rules_claude_blocks
from gateway.testkit.rules import claude_members
from gateway.testkit.rules import common as rules
from gateway.testkit.rules.claude_members import Platform
from gateway.testkit.rules.common import Block, Body

ClaudeRule = Callable[[Body, Caps, Platform], Iterator[str]]

_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_NO_SAMPLING_SINCE: Final = "2026-10-21"
"""The `anthropic_version` with which Anthropic's API refuses temperature, top_p and top_k. The anthropic SDK sends this
version since its own release 2.0.
"""


def claude_fault(body: Any, caps: Caps, *, bedrock: bool) -> str | None:
    """Return the first fault of a body, or None. `bedrock` is true for InvokeModel, and false for api.anthropic.com."""
    platform = claude_members.BEDROCK if bedrock else claude_members.ANTHROPIC
    caps = rules.permitting(caps)
    return rules.first(fault for rule in _RULES for fault in rule(body, caps, platform))


def _members(body: Body, _: Caps, platform: Platform) -> Iterator[str]:
    yield from platform.body.faults(body, "")
    for name, members in claude_members.INNER.items():
        if body.get(name) is not None:
            yield from members.faults(body[name], name)


def _version(body: Body, caps: Caps, platform: Platform) -> Iterator[str]:
    """Yield a fault if the model on Bedrock does not accept the body's `anthropic_version`.

    For example, Claude 4.6 and older models refuse the version that Anthropic's SDKs 2.0 and later send.
    """
    allowed = caps.anthropic_versions if "anthropic_version" in platform.body.required else ()
    if allowed and body["anthropic_version"] not in allowed:
        yield f"anthropic_version: Input should be {' or '.join(repr(version) for version in allowed)}"


def _limits(body: Body, _: Caps, platform: Platform) -> Iterator[str]:
    if body["max_tokens"] < 1:
        yield "max_tokens: Input should be greater than or equal to 1"
    for name in ("temperature", "top_p"):
        if not 0 <= (body.get(name) or 0) <= 1:
            yield f"{name}: range: 0..1"
    for index, stop in enumerate(body.get("stop_sequences") or ()):
        if not isinstance(stop, str):
            yield f"stop_sequences.{index}: Input should be a valid string"
        elif rules.is_blank(stop):
            yield "stop_sequences: each stop sequence must contain non-whitespace"
    if "anthropic_beta" in platform.body.optional:
        yield from rules.beta_faults(body.get("anthropic_beta"))


def _system(body: Body, _: Caps, __: Platform) -> Iterator[str]:
    system = body.get("system")
    if not isinstance(system, list):
        return
    for index, block in enumerate(system):
        yield from claude_members.BLOCKS["text"].faults(block, f"system.{index}")
        if block["type"] != "text":
            yield f"system.{index}.type: Input should be 'text'"
    yield from rules_claude_blocks.blank_texts(system, "system")


def _tools(body: Body, caps: Caps, platform: Platform) -> Iterator[str]:
    tools = body.get("tools") or []
    if tools and not caps.tools:
        yield "tools: Extra inputs are not permitted"
    for index, tool in enumerate(tools):
        yield from _tool(tool, f"tools.{index}", platform)
    names = [str(tool["name"]) for tool in tools if "name" in tool]
    if len(set(names)) < len(names):
        yield "tools: Tool names must be unique."


def _tool(tool: Any, at: str, platform: Platform) -> Iterator[str]:
    kind = rules.tag_of(tool)
    if kind not in {"", "custom"}:
        if not kind.startswith(platform.typed_tools):
            yield claude_members.wrong_tag(kind, at, [*platform.typed_tools, "custom"])
        return
    at = f"{at}.custom"
    yield from claude_members.CUSTOM_TOOL.faults(tool, at)
    if not _TOOL_NAME.fullmatch(tool["name"]):  # bifrost#3788, openclaw#12892, litellm#24668
        yield f"{at}.name: String should match pattern '^{_TOOL_NAME.pattern}$'"
    yield from rules.schema_faults(tool["input_schema"], f"{at}.input_schema")
    yield from rules.property_faults(tool["input_schema"], f"{at}.input_schema")


def _tool_choice(body: Body, caps: Caps, _: Platform) -> Iterator[str]:
    choice = body.get("tool_choice")
    if choice is None:
        return
    if rules.tag_of(choice) not in claude_members.TOOL_CHOICES:
        yield claude_members.wrong_tag(rules.tag_of(choice), "tool_choice", claude_members.TOOL_CHOICES)
    yield from claude_members.TOOL_CHOICES[choice["type"]].faults(choice, f"tool_choice.{choice['type']}")
    if not body.get("tools"):
        yield "tool_choice may only be specified while providing tools."
    if choice["type"] == "tool" and choice["name"] not in [tool.get("name") for tool in body["tools"]]:
        yield f"Tool '{choice['name']}' not found in provided tools"
    if choice["type"] in {"any", "tool"} and not caps.forced_tool_choice:
        yield f"tool_choice.type: '{choice['type']}' is not supported by this model"


def _cache_controls(body: Body, caps: Caps, platform: Platform) -> Iterator[str]:
    ttls: list[str | None] = []
    for at, control in _controls(body):
        yield from platform.cache_control.faults(control, f"{at}.cache_control.ephemeral")
        if control["type"] != "ephemeral":
            yield claude_members.wrong_tag(control["type"], f"{at}.cache_control", ["ephemeral"])
        if control.get("ttl") not in {None, "5m", "1h"}:
            yield f"{at}.cache_control.ephemeral.ttl: Input should be '5m' or '1h'"
        if control.get("ttl") == "1h" and not caps.cache_ttl and platform is claude_members.BEDROCK:
            yield f"{at}.cache_control.ephemeral.ttl: Extra inputs are not permitted"
        ttls.append(control.get("ttl"))
    if len(ttls) > rules.MAX_CACHE_POINTS:
        yield f"A maximum of {rules.MAX_CACHE_POINTS} blocks with cache_control may be provided. Found {len(ttls)}."
    yield from rules.ttl_faults(ttls)


def _controls(body: Body) -> Iterator[tuple[str, Block]]:
    """Yield the path and the value of each `cache_control`, in the order in which Anthropic reads the blocks."""
    yield from _marks(body.get("tools"), "tools")
    yield from _marks(body.get("system"), "system")
    for number, message in enumerate(body["messages"]):
        yield from _marks(message["content"], f"messages.{number}.content")


def _marks(blocks: Any, at: str) -> Iterator[tuple[str, Block]]:
    for index, block in enumerate(blocks if isinstance(blocks, list) else ()):
        if block.get("type") == "tool_result":
            yield from _marks(block.get("content"), f"{at}.{index}.content")
        if block.get("cache_control") is not None:
            yield f"{at}.{index}", block["cache_control"]


def _settings(body: Body, caps: Caps, _: Platform) -> Iterator[str]:
    if (body.get("anthropic_version") or "") == _NO_SAMPLING_SINCE:
        caps = replace(caps, sampling="none")
    settings = rules.Settings(
        thinking=body.get("thinking"),
        effort=(body.get("output_config") or {}).get("effort"),
        max_tokens=body["max_tokens"],
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        top_k=body.get("top_k"),
        forced=(body.get("tool_choice") or {}).get("type") in {"any", "tool"},
        betas=tuple(body.get("anthropic_beta") or ()),
    )
    for check in (rules.sampling_faults, rules.thinking_faults, rules.effort_faults):
        yield from check(settings, caps)


def _output_format(body: Body, caps: Caps, platform: Platform) -> Iterator[str]:
    if platform is claude_members.BEDROCK and not caps.json_schema:
        if body.get("output_format") is not None:
            yield "output_format: Extra inputs are not permitted"
        if (body.get("output_config") or {}).get("format") is not None:
            yield "output_config.format: Extra inputs are not permitted"


def _context_edits(body: Body, _: Caps, platform: Platform) -> Iterator[str]:
    for index, edit in enumerate((body.get("context_management") or {}).get("edits") or ()):
        tag = rules.tag_of(edit)
        if not tag.startswith(platform.edits):
            yield claude_members.wrong_tag(tag, f"context_management.edits.{index}", platform.edits)


def _end(body: Body, caps: Caps, _: Platform) -> Iterator[str]:
    last = body["messages"][-1]
    if last["role"] != "assistant" or not last["content"]:
        return
    if not caps.prefill:
        yield rules.PREFILL
    text = str(rules_claude_blocks.blocks_of(last)[-1].get("text", ""))
    if text != text.rstrip():
        yield rules.TRAILING_SPACE


_RULES: Final[tuple[ClaudeRule, ...]] = (
    _members, _version, _limits, _system, rules_claude_blocks.messages, rules_claude_blocks.roles,
    rules_claude_blocks.texts, _tools, _tool_choice, _cache_controls, rules_claude_blocks.tool_pairs,
    rules_claude_blocks.thinking, _settings, _output_format, _context_edits, _end,
)  # fmt: skip
"""All rules, in order. A rule may rely on what the rules before it have checked."""
