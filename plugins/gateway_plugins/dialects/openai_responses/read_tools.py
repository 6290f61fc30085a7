"""Readers of the tools and the tool choice in a Responses request. Malformed values are refused as in `read.py`.

Every tool of the client becomes a function for the provider:

- The name of a function in a `namespace` is joined with the namespace (`names.flat`).
- A custom tool, whose input is free text, becomes a function with one property for this text.
- The local shell becomes a function whose properties are the fields of a shell call's `action`.

In the reply, a call of such a function becomes a call of the client's own tool again (`names.py`).

A tool that runs on OpenAI's servers is refused with a 400. Exception: the tools that Codex offers in every request
(`_ALWAYS_OFFERED`) are left out and reported as dropped. Source: the openai SDK's types of tools.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import msgspec

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.openai import custom_tools
from gateway_plugins.dialects.openai.read import MODES, ChoiceMember, offer
from gateway_plugins.dialects.openai_responses.names import CUSTOM, FUNCTION, LOCAL_SHELL, Origin, Origins, flat
from gateway_plugins.shared.checks import flag_of, inner_leftovers, list_of, object_of, text_of
from gateway_plugins.shared.fields import member, param
from gateway_plugins.shared.offered_tools import OfferedTools, Tool

_ALWAYS_OFFERED: Final = frozenset({"web_search", "tool_search"})
"""Types of OpenAI's own tools that Codex offers in every request. They are left out and reported as dropped."""
_COMMON: Final = frozenset({"type", "name", "description", "defer_loading"})
"""Fields that every type of tool may have. `defer_loading` is ignored without a report, because its only effect is to
save tokens."""
_CARRIED: Final = {
    FUNCTION: _COMMON | {"parameters", "strict"},
    CUSTOM: _COMMON | {"format"},
}
_SHELL_DESCRIPTION: Final = "Runs a command on the user's machine and returns its output."
_SHELL: Final = {
    "type": "object",
    "properties": {
        "command": {"type": "array", "items": {"type": "string"}, "description": "The program and its arguments."},
        "working_directory": {"type": "string"},
        "timeout_ms": {"type": "integer"},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["command"],
}
_CONVERSATION_AT: Final = "/input/"
_NAMESPACE_DESCRIPTION: Final = "Of all tools whose names begin with {}: {}"


class _Offered(msgspec.Struct):
    drop: Drop
    tools: list[Tool] = msgspec.field(default_factory=list)
    origins: dict[str, Origin] = msgspec.field(default_factory=dict)

    def read(self, raw: Any, at: str, namespace: str = "") -> None:
        kind = str(raw.get("type")) if isinstance(raw, dict) else ""
        if kind == "namespace" and not namespace:
            self._namespace(raw, at)
        elif kind in _CARRIED:
            self._named(raw, at, namespace)
        elif kind == LOCAL_SHELL and not namespace:
            self._add(
                Origin(LOCAL_SHELL, LOCAL_SHELL), Tool(at, LOCAL_SHELL, _SHELL_DESCRIPTION, _SHELL, at, False, at)
            )
        elif kind in _ALWAYS_OFFERED:
            self.drop(at)
        else:
            field_ = f"{param(at)}.type"
            raise invalid(f'{field_}: a tool of type "{kind}" does not run here: offer function or custom', field_)

    def _namespace(self, raw: dict[str, Any], at: str) -> None:
        """Add the tools of a namespace. Append the namespace's description to the description of the first tool."""
        inner_leftovers(raw, {"type", "name", "tools", "description"}, at, self.drop)
        name, first = _name(raw, at), len(self.tools)
        for index, inner in enumerate(list_of(raw.get("tools"), f"{at}/tools")):
            self.read(inner, f"{at}/tools/{index}", name)
        description = text_of(raw.get("description"), f"{at}/description").strip()
        if description and len(self.tools) > first:
            tool = self.tools[first]
            with_namespace = f"{tool.description}\n\n{_NAMESPACE_DESCRIPTION.format(flat(name, ''), description)}"
            self.tools[first] = replace(tool, description=with_namespace.strip())

    def _named(self, raw: dict[str, Any], at: str, namespace: str) -> None:
        kind = raw["type"]
        inner_leftovers(raw, _CARRIED[kind], at, self.drop)
        name = _name(raw, at)
        description = text_of(raw.get("description"), f"{at}/description")
        strict = flag_of(raw.get("strict"), f"{at}/strict") is True
        schema, schema_at = raw.get("parameters"), f"{at}/parameters"
        if kind == CUSTOM:
            schema, schema_at, strict = custom_tools.SCHEMA, at, False
            form = object_of(raw.get("format"), f"{at}/format")
            description = custom_tools.described(description, form, f"{at}/format", self.drop)
        made = Tool(at, flat(namespace, name), description, schema, schema_at, strict, f"{at}/strict")
        self._add(Origin(kind, name, namespace), made)

    def _add(self, origin: Origin, tool: Tool) -> None:
        """Add a tool.

        A tool from an item of `input`, such as the output of a tool search, is ignored if its flat name is taken.
        Raises `Refused` for any other tool whose flat name (`names.flat`) is taken.
        """
        if tool.name in self.origins and tool.at.startswith(_CONVERSATION_AT):
            return
        if tool.name in self.origins:
            field_ = f"{param(tool.at)}.name"
            raise invalid(f'{field_}: "{tool.name}" is offered twice', field_)
        self.origins[tool.name] = origin
        self.tools.append(tool)


def _name(raw: dict[str, Any], at: str) -> str:
    name = raw.get("name")
    if not isinstance(name, str) or not name.strip():
        raise invalid(f"{param(at)}.name must not be empty", f"{param(at)}.name")
    return name


def tools(top: Members, drop: Drop) -> tuple[OfferedTools, Origins]:
    """Return the functions for the provider with the tool choice, and the client's tools by their functions' names.

    Raises `Refused` for a tool of an unsupported type. Tools in `_ALWAYS_OFFERED` are not refused but dropped.
    """
    offered = _Offered(drop)
    for raw, at in _raws(top):
        offered.read(raw, at)
    return offer(offered.tools, _choice(member(top, "tool_choice")), top), offered.origins


def _raws(top: Members) -> Iterator[tuple[Any, str]]:
    """Yield each tool with its JSON pointer: first from the field `tools`, then from items of `input`."""
    for index, raw in enumerate(list_of(member(top, "tools"), "/tools")):
        yield raw, f"/tools/{index}"
    items = member(top, "input")
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict) and item.get("type") in ("additional_tools", "tool_search_output"):
            at = f"/input/{index}/tools"
            for number, raw in enumerate(list_of(item.get("tools"), at)):
                yield raw, f"{at}/{number}"


def _choice(value: Any) -> ChoiceMember:
    if value is None:
        return ChoiceMember()
    if isinstance(value, str) and value in MODES:
        return ChoiceMember(MODES[value])
    inner = value if isinstance(value, dict) else {}
    if inner.get("type") == "allowed_tools":
        mode = inner.get("mode")
        if mode not in ("auto", "required"):
            raise invalid(f'tool_choice.mode: "{mode}" is not one of auto, required', "tool_choice.mode")
        allowed = list_of(inner.get("tools"), "/tool_choice/tools")
        return ChoiceMember(MODES[mode], allowed=tuple(_chosen_name(tool) for tool in allowed))
    return ChoiceMember("tool", _chosen_name(inner))


def _chosen_name(value: Any) -> str:
    inner = value if isinstance(value, dict) else {}
    if inner.get("type") == LOCAL_SHELL:
        return LOCAL_SHELL
    name, namespace = inner.get("name"), inner.get("namespace") or ""
    if inner.get("type") not in (FUNCTION, CUSTOM) or not isinstance(name, str) or not isinstance(namespace, str):
        message = "tool_choice must be auto, none, required, allowed_tools, or name one function or custom tool"
        raise invalid(message, "tool_choice")
    return flat(namespace, name)
