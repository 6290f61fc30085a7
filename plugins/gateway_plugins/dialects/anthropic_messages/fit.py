"""Changes the parameters of a Messages request that is not translated, so that the model accepts them.

The client and the provider of such a request both use the Messages API or InvokeModel.

- `shared/settings.py` and `shared/thinking.py` make the decisions. This module reads the client's fields and writes the
  result. Only fields with a changed value are rewritten.
- If the model's family is not known, only sampling parameters are changed.
- Values that are not known here, such as a new type of thinking, are passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.anthropic_messages import demand as messages_demand
from gateway_plugins.dialects.anthropic_messages.betas import INTERLEAVED
from gateway_plugins.dialects.anthropic_messages.read_options import EFFORT_AT, thinking_request
from gateway_plugins.shared import numbers, settings
from gateway_plugins.shared.lenient import mapping, sequence, text, whole_number
from gateway_plugins.shared.members_in_place import EditedMembers
from gateway_plugins.shared.output_format import JSON_HINT, schema_hint
from gateway_plugins.shared.thinking import (
    ANTHROPIC_FORMS,
    BETWEEN_TOOLS,
    EFFORTS,
    ThinkingPlan,
    ThinkingRequest,
    answer_effort,
    plan_thinking,
)
from gateway_plugins.shared.turns import CONTINUE

_TYPES: Final = ("enabled", "adaptive", "disabled", BETWEEN_TOOLS)
_PLANNED: Final = ("type", "budget_tokens")
"""Fields of `thinking` that this module may change. All other fields keep the client's values."""
_FORCED: Final = ("any", "tool")


def apply(edited: EditedMembers, target: Target, given: Collection[str], drop: Drop, *, on_bedrock: bool) -> list[str]:
    """Change the parameters of a request so that the model accepts them. Return the betas that the new values need.

    - `given` are the betas that the client names.
    - `on_bedrock` is true if the request goes to Bedrock. There, some models accept no JSON schemas or strict tools.

    Raises `Refused` for a malformed sampling parameter or thinking budget.
    """
    caps = target.caps
    betas: list[str] = []
    thinks = mapping(edited["thinking"]).get("type") in ("enabled", "adaptive")
    if caps.family:
        interleaves = INTERLEAVED in given and bool(edited["tools"])  # the budget may then exceed the output limit
        thinks = _thinking(edited, caps, betas, drop, interleaves=interleaves)
        _tool_choice(edited, caps, drop, thinks=thinks)
        _stops(edited, caps, drop)
        if on_bedrock:
            _strict_tools(edited, caps, drop)
            _format(edited, caps, drop)
        _end(edited, caps, drop, thinks=thinks)
    _sampling(edited, caps, drop, thinks=thinks)
    if on_bedrock and "max_tokens" not in edited.top:
        edited.put("max_tokens", settings.output_limit(None, ThinkingPlan(tokens=_budget(edited)), caps, needed=True))
    return betas


def _thinking(edited: EditedMembers, caps: Caps, betas: list[str], drop: Drop, *, interleaves: bool) -> bool:
    """Change `thinking` and `output_config.effort` so that the model accepts them. Return whether the model may think.

    - If the new values need a beta, it is added to `betas`.
    - `interleaves` is true if the model may think between tool calls. The thinking budget may then exceed the output
      limit.
    - For an unknown type of `thinking`, the result is True.
    """
    raw, config = edited["thinking"], mapping(edited["output_config"])
    effort = str(config["effort"]) if config.get("effort") in EFFORTS else ""
    known = raw is None or mapping(raw).get("type") in _TYPES
    asked = {name: value for name, value in mapping(raw).items() if name in _PLANNED} if known else {}
    request = thinking_request(asked or None, effort, caps, drop)
    loop = caps.reasoning == "budget" and request.is_wanted and _is_unsigned_loop(edited)
    limit = None if interleaves else whole_number(edited["max_tokens"]) or None
    plan = plan_thinking(request, limit, caps, drop, unsigned_loop=loop)
    if (known and raw is not None) or plan.form:
        _write_thinking(edited, request, plan, caps)
    made = plan.effort if plan.is_anthropic and plan.form == "adaptive" else ""
    if effort and not request.effort:
        made = answer_effort(effort, EFFORT_AT, caps, drop, off=request.is_off) or made
    if made != effort:
        others = {name: value for name, value in config.items() if name != "effort"}
        edited.put("output_config", others | ({"effort": made} if made else {}))
    if made and caps.effort_beta:
        betas.append(caps.effort_beta)
    by_itself = caps.reasoning == "always" or (caps.thinks_by_default and not plan.off)
    return plan.is_anthropic or by_itself or not known


def _write_thinking(edited: EditedMembers, request: ThinkingRequest, plan: ThinkingPlan, caps: Caps) -> None:
    """Write the planned thinking into the field `thinking`.

    - If the plan requests thinking, the client's other fields, such as `display`, are kept.
    - If the plan requests nothing, the field is removed. Exception: if the field switches thinking off with a type that
      the model accepts, such as `disabled`, it is kept.
    """
    given = mapping(edited["thinking"])
    made: dict[str, Any]
    if plan.off:
        made = {"type": plan.off}
    elif plan.form == "budget":
        made = {"type": "enabled", "budget_tokens": plan.tokens}
    elif plan.is_anthropic:
        made = {"type": "adaptive"}
    elif request.is_off and caps.reasoning in ANTHROPIC_FORMS and caps.thinking_off == given.get("type"):
        return
    else:
        edited.put("thinking", None)
        return
    if made != {name: given[name] for name in _PLANNED if name in given}:
        others = {} if plan.off else {name: value for name, value in given.items() if name not in _PLANNED}
        edited.put("thinking", made | others)


def _is_unsigned_loop(edited: EditedMembers) -> bool:
    """Return whether the last message has tool results, and the assistant message before it begins without thinking.

    System messages are ignored.
    """
    if b'"tool_result"' not in edited.raw("messages"):
        return False
    turns = [mapping(turn) for turn in sequence(edited["messages"]) if mapping(turn).get("role") != "system"]
    contents = [[mapping(block) for block in sequence(turn.get("content"))] for turn in turns[-2:]]
    if len(contents) < 2 or turns[-1].get("role") != "user" or not all(contents):
        return False
    called = any(block.get("type") == "tool_use" for block in contents[0])
    answered = any(block.get("type") == "tool_result" for block in contents[1])
    return called and answered and contents[0][0].get("type") not in messages_demand.THINKING


def _tool_choice(edited: EditedMembers, caps: Caps, drop: Drop, *, thinks: bool) -> None:
    choice = mapping(edited["tool_choice"])
    if choice.get("type") in _FORCED and not settings.can_force(caps, thinks=thinks):
        drop("/tool_choice")
        parallel = "disable_parallel_tool_use"
        edited.put("tool_choice", {"type": "auto"} | ({parallel: choice[parallel]} if parallel in choice else {}))


def _stops(edited: EditedMembers, caps: Caps, drop: Drop) -> None:
    stops = edited["stop_sequences"]
    if isinstance(stops, list) and all(isinstance(stop, str) for stop in stops):
        supported = settings.supported_stops(stops, caps, drop, "/stop_sequences")
        if supported != stops:
            edited.put("stop_sequences", supported)


def _strict_tools(edited: EditedMembers, caps: Caps, drop: Drop) -> None:
    """Remove `strict` from the tools, unless the model supports strict tools or a JSON schema for the answer."""
    if caps.strict_tools or caps.json_schema or b'"strict"' not in edited.raw("tools"):
        return
    for index, tool in enumerate(map(mapping, sequence(edited["tools"]))):
        if tool.pop("strict", None):
            drop(f"/tools/{index}/strict")
            edited.change("tools")


def _format(edited: EditedMembers, caps: Caps, drop: Drop) -> None:
    """Move the requested JSON format to `output_config.format`.

    If the model accepts no schemas, write the format into the system prompt instead.
    """
    config = mapping(edited["output_config"])
    older = edited["output_format"]
    schema_format = config.get("format") if older is None else older
    if "output_format" in edited.top:
        edited.put("output_format", None)
    if schema_format is None:
        return
    if caps.json_schema:
        if older is not None:
            edited.put("output_config", {**config, "format": older})
        return
    drop("/output_config/format" if older is None else "/output_format")
    if config.pop("format", None) is not None:
        edited.change("output_config")
    schema = mapping(schema_format).get("schema")
    prompt = {"type": "text", "text": schema_hint(schema) if schema else JSON_HINT}
    edited.put("system", [*system_blocks(edited["system"]), prompt])


def _end(edited: EditedMembers, caps: Caps, drop: Drop, *, thinks: bool) -> None:
    """Add a user message if the conversation ends with an assistant message that the model cannot continue.

    The assistant message is reported with `drop`, because the model will not continue it. A model that thinks
    (`thinks`) cannot continue any message.

    - An empty assistant message is removed instead, without a report.
    - After an assistant message with tool calls, nothing is added.
    """
    enforced = mapping(edited["output_config"]).get("format") is not None
    if (caps.prefill and not thinks and not enforced) or not _may_end_with_assistant(edited.raw("messages")):
        return
    messages = sequence(edited["messages"])
    last = mapping(messages[-1]) if messages else {}
    calls = any(mapping(block).get("type") == "tool_use" for block in sequence(last.get("content")))
    if last.get("role") != "assistant" or calls:
        return
    if not last.get("content") and len(messages) > 1:
        edited.put("messages", messages[:-1])
        return
    drop(f"/messages/{len(messages) - 1}")
    edited.put("messages", [*messages, {"role": "user", "content": CONTINUE}])


def _may_end_with_assistant(raw: bytes) -> bool:
    """Return whether `"assistant"` occurs after the last `"user"` in the JSON text of the messages.

    If not, the last message is not the assistant's, and the messages need not be decoded.
    """
    return raw.rfind(b'"assistant"') > raw.rfind(b'"user"')


def _sampling(edited: EditedMembers, caps: Caps, drop: Drop, *, thinks: bool) -> None:
    given = numbers.checked(numbers.SAMPLING, {name: edited[name] for name in numbers.SAMPLING}, {})
    supported = settings.supported_sampling(given, caps, drop, thinks=thinks)
    for name, value in given.items():
        if supported.get(name) != value:
            edited.put(name, supported.get(name))


def system_blocks(value: Any) -> list[Any]:
    """Return the field `system` as a list of blocks."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}] if text(value).strip() else []
    return value if isinstance(value, list) else []


def min_limit(edited: EditedMembers) -> int:
    """Return the smallest `max_tokens` that the API accepts with the request's thinking budget."""
    return _budget(edited) + 1


def _budget(edited: EditedMembers) -> int:
    """Return the thinking budget, limited to the range from 0 to `MAX_INT32`.

    The range is enforced here because no other code checks the budget of an unknown type of `thinking`.
    """
    return min(max(0, whole_number(mapping(edited["thinking"]).get("budget_tokens"))), numbers.MAX_INT32)
