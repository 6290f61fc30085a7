"""Writer of the answer's format (a JSON schema) in a Converse request: natively, by a schema tool, or by a hint.

The schema tool is a tool whose input is the answer. A hint is a text in the system prompt.

Every translation to Converse uses this writer. `shared/output_format.py` explains the three ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from gateway.contract import lenient_json
from gateway.contract.flag import Caps, Drop
from gateway_plugins.dialects.bedrock_converse.tools import tool_spec
from gateway_plugins.shared.offered_tools import ToolChoice
from gateway_plugins.shared.output_format import SCHEMA_TOOL, JsonFormat, schema_hint
from gateway_plugins.shared.schemas import is_recursive, restrict_schema
from gateway_plugins.shared.settings import can_force
from gateway_plugins.shared.tools import Block, unused

_SCHEMA_TOOL_HINT: Final = "Give your final answer by calling the tool "


class Output(msgspec.Struct, frozen=True):
    """The tools and tool choice of a request, and the fields that demand the answer's format."""

    choice: ToolChoice
    """The tool choice. It may force a call of the schema tool."""
    specs: Sequence[Block]
    """Definitions (`toolSpec`) of the client's tools, and of the schema tool if there is one."""
    config: Block = msgspec.field(default_factory=dict)
    """Value of the field `outputConfig`. It is {} if the field is left out."""
    schema_tool: str = ""
    """Name of the schema tool, a tool whose input is the answer. It is "" if there is none."""
    hint: str = ""
    """Text about the format to add to the system prompt, or ""."""


def build_output(
    wanted: JsonFormat | None, specs: Sequence[Block], choice: ToolChoice, caps: Caps, drop: Drop, *, thinks: bool
) -> Output:
    """Return the tools and tool choice of a request, and the fields that demand the answer's format `wanted`.

    `specs` are the definitions of the client's tools. `thinks` is true if the model thinks. Some thinking models refuse
    a forced tool choice.
    """
    if wanted is None:
        return Output(choice, specs)
    if caps.json_schema and not is_recursive(wanted.schema):
        return Output(choice, specs, _text_format(wanted, drop))
    if not caps.tools or choice.is_forced:
        drop(wanted.at)
        return Output(choice, specs, hint=schema_hint(wanted.schema))
    return _schema_tool_output(wanted, specs, choice, caps, drop, thinks=thinks)


def _text_format(wanted: JsonFormat, drop: Drop) -> Block:
    """Return `outputConfig` for the format. Each keyword that is removed from the schema is reported as dropped."""
    defined = {"schema": lenient_json.dumps(restrict_schema(wanted.schema, drop, wanted.schema_at)).decode()}
    if wanted.name:
        defined["name"] = wanted.name
    if wanted.description:
        defined["description"] = wanted.description
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": defined}}}


def _schema_tool_output(
    wanted: JsonFormat, specs: Sequence[Block], choice: ToolChoice, caps: Caps, drop: Drop, *, thinks: bool
) -> Output:
    offered = [spec for spec in specs if "toolSpec" in spec]
    name = unused(SCHEMA_TOOL, {spec["toolSpec"]["name"] for spec in offered})
    with_schema_tool = [*specs, tool_spec(name, wanted.description, wanted.schema, wanted.schema_at, caps, drop)]
    if not can_force(caps, thinks=thinks):
        unforced = replace(choice, mode="auto", name="")
        return Output(unforced, with_schema_tool, schema_tool=name, hint=f"{_SCHEMA_TOOL_HINT}{name}.")
    any_tool = bool(offered) and choice.mode == "auto"
    forced = replace(choice, mode="any" if any_tool else "tool", name="" if any_tool else name)
    return Output(forced, with_schema_tool, schema_tool=name)
