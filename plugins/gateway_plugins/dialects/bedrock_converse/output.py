"""An answer of a JSON schema, as a request to Converse asks for it: natively, by a tool, or by a hint.

Shared by the conversions that end in Converse. Where the model has no structured output, a tool whose input is the
answer stands in for it; where no tool can be demanded, the system's text asks. Nothing here knows the client's dialect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from gateway.contract.flag import Caps, Drop
from gateway_plugins.dialects.bedrock_converse.tools import Choice, text_format, tool_spec
from gateway_plugins.shared.schemas import is_recursive
from gateway_plugins.shared.settings import JSON_HINT
from gateway_plugins.shared.tools import Block, unused

_OUTPUT: Final = "json_output"
_TOOL_HINT: Final = "Give your final answer by calling the tool "


@dataclass(frozen=True, slots=True)
class Format:
    """What is wished for. `at` is the JSON pointer of the schema in the client's request, `wish_at` of the whole."""

    schema: Any
    at: str
    name: str = ""
    description: str = ""
    wish_at: str = ""
    """"" if that is `at`."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a wish becomes."""

    choice: Choice
    """Among the tools, the one that stands in included."""
    specs: Sequence[Block]
    config: Block = field(default_factory=dict)
    """`outputConfig`; {} for none."""
    schema_tool: str = ""
    """The tool whose input is the answer; "" while there is none."""
    hint: str = ""
    """For the system's text; "" for none."""


def output(
    wanted: Format | None, specs: Sequence[Block], choice: Choice, caps: Caps, drop: Drop, *, thinks: bool
) -> Output:
    """`thinks`: Anthropic's thinking stands beside it, which takes no forced tool."""
    if wanted is None:
        return Output(choice, specs)
    if caps.json_schema and not is_recursive(wanted.schema):
        return Output(choice, specs, text_format(wanted.name, wanted.description, wanted.schema, drop, wanted.at))
    if not caps.tools or choice.mode in {"any", "tool"}:
        drop(wanted.wish_at or wanted.at)
        said = f"{JSON_HINT} It must match this JSON schema: {orjson.dumps(wanted.schema).decode()}"
        return Output(choice, specs, hint=said)
    return _by_tool(wanted, specs, choice, caps, thinks=thinks)


def _by_tool(wanted: Format, specs: Sequence[Block], choice: Choice, caps: Caps, *, thinks: bool) -> Output:
    offered = [spec for spec in specs if "toolSpec" in spec]
    name = unused(_OUTPUT, {spec["toolSpec"]["name"] for spec in offered})
    with_it = [*specs, tool_spec(name, wanted.description, wanted.schema, caps, wanted.at)]
    if thinks or not caps.forced_tool_choice:
        demanded = replace(choice, mode="auto", name="")
        return Output(demanded, with_it, schema_tool=name, hint=f"{_TOOL_HINT}{name}.")
    free = bool(offered) and choice.mode == "auto"
    demanded = replace(choice, mode="any" if free else "tool", name="" if free else name)
    return Output(demanded, with_it, schema_tool=name)
