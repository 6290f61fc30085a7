"""Rules for tools, tool calls and tool results. They find faults that botocore's service model allows and Converse
refuses.

The table of rules in `converse.py` contains these rules. They need bodies that `testkit/judge.py` has accepted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from gateway.contract.capabilities import Caps
from gateway.testkit.rules import common as rules
from gateway.testkit.rules import converse_body
from gateway.testkit.rules.common import AGAIN, MODEL_SAYS, Body, Rule


def _tool_pairs(body: Body, _: Caps) -> Iterator[str]:
    """Yield faults of tool calls and results that do not match (camel#3954).

    The message after the calls must have a result for each call, and no other results.
    """
    messages = converse_body.messages(body)
    waiting: list[str] = []
    for number, message in enumerate(messages):
        blocks = converse_body.content(message, number)
        uses = [block.value for block in blocks if block.kind == "toolUse"]
        results = [block.value["toolUseId"] for block in blocks if block.kind == "toolResult"]
        served = [use["toolUseId"] for use in uses if use.get("type") == "server_tool_use"]
        yield from _answered(waiting + served, results, number)
        waiting = [use["toolUseId"] for use in uses if use.get("type") != "server_tool_use"]
        if doubled := [made for made, count in Counter(waiting).items() if count > 1]:
            yield f"The toolUse blocks at messages.{number}.content contain duplicate Ids: {', '.join(doubled)}"
    yield from _answered(waiting, [], len(messages))


def _answered(waiting: list[str], results: list[str], number: int) -> Iterator[str]:
    at = f"messages.{number}.content"
    if missing := [made for made in waiting if made not in results]:
        yield f"Expected toolResult blocks at {at} for the following Ids: {', '.join(missing)}"
    if Counter(results) - Counter(waiting):
        yield f"The number of toolResult blocks at {at} exceeds the number of toolUse blocks of previous turn."


def _results(body: Body, caps: Caps) -> Iterator[str]:
    for at, _role, kind, value in converse_body.placed(body):
        if kind == "toolResult" and not value["content"]:
            yield f"The content field in the ToolResultBlock object at {at} is empty. Add a content block {AGAIN}"
        if kind == "toolResult" and value.get("status") and not caps.tool_result_status:
            yield f"This model doesn't support the status field at {at}.toolResult. Remove it {AGAIN}"
    for at, _role, kind, _value in converse_body.in_results(body):
        if kind == "image" and not caps.tool_result_images:
            yield f"This model doesn't support the image at {at} in a tool result. Remove it {AGAIN}"


def _beside_results(body: Body, caps: Caps) -> Iterator[str]:
    """Yield a fault for each message with tool results and with other content that the model refuses beside them.

    Claude refuses documents and videos beside tool results. Some other model families refuse everything except cache
    points (pydantic-ai#6081, langchain-aws#141).
    """
    for number, message in enumerate(converse_body.messages(body)):
        kinds = {block.kind for block in converse_body.content(message, number)} - {"cachePoint"}
        if message["role"] != "user" or "toolResult" not in kinds:
            continue
        files = kinds & {"document", "video"} if caps.family == "claude" else set()
        if files or (caps.tool_result_alone and len(kinds) > 1):
            yield "Conversation blocks and tool result blocks cannot be provided in the same turn."


def _calls(body: Body, _: Caps) -> Iterator[str]:
    for at, _role, kind, value in converse_body.placed(body):
        if kind == "toolUse" and not isinstance(value["input"], dict):
            yield (
                f"The format of the value at {at}.toolUse.input is invalid. Provide a json object for the field {AGAIN}"
            )
        if kind in {"toolUse", "toolResult"} and not converse_body.tools(body):
            yield "The toolConfig field must be defined when using toolUse and toolResult content blocks."


def _tool_specs(body: Body, caps: Caps) -> Iterator[str]:
    if converse_body.tools(body) and not caps.tools:
        yield "This model doesn't support tool use."
    names = [tool["toolSpec"]["name"] for tool in converse_body.tools(body) if "toolSpec" in tool]
    if len(set(names)) < len(names):
        yield f"{MODEL_SAYS}tools: Tool names must be unique."
    for index, tool in enumerate(converse_body.tools(body)):
        spec = tool.get("toolSpec")
        if not spec:
            continue
        if spec.get("strict") and not caps.strict_tools:  # litellm#31582
            yield f"{MODEL_SAYS}tools.{index}.custom.strict: Extra inputs are not permitted"
        schema = spec["inputSchema"]["json"]
        if not isinstance(schema, dict) or schema.get("type") != "object":
            yield f"The value at toolConfig.tools.{index}.toolSpec.inputSchema.json.type must be one of: object."
        at = f"{MODEL_SAYS}tools.{index}.custom.input_schema"
        yield from rules.schema_faults(schema, at)
        if caps.plain_properties:
            yield from rules.property_faults(schema, at)


def _tool_choice(body: Body, caps: Caps) -> Iterator[str]:
    choice = (body.get("toolConfig") or {}).get("toolChoice") or {}
    if ("any" in choice or "tool" in choice) and not caps.forced_tool_choice:
        demanded = converse_body.kind_of(choice)
        yield f"This model doesn't support the toolConfig.toolChoice.{demanded} field. Remove it {AGAIN}"
    names = [tool["toolSpec"]["name"] for tool in converse_body.tools(body) if "toolSpec" in tool]
    if "tool" in choice and choice["tool"]["name"] not in names:
        yield f"{MODEL_SAYS}Tool '{choice['tool']['name']}' not found in provided tools"
    if choice and rules.member(converse_body.extra_fields(body).get("tool_choice"), "type"):
        yield "The additional field tool_choice.type conflicts with an existing field."


RULES: Final[tuple[Rule, ...]] = (_tool_pairs, _results, _beside_results, _calls, _tool_specs, _tool_choice)
