"""Builds the first response object of a Responses reply. Many of its fields repeat settings of the request.

- A setting that the gateway has dropped is not repeated, because it has no effect.
- Every field is present, and numbers are never null, as the Open Responses specification demands (ResponseResource).
  OpenAI's own responses have the same fields.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest
from gateway_plugins.dialects.openai_responses.items import IN_PROGRESS, Json, new_id
from gateway_plugins.dialects.openai_responses.names import FUNCTION
from gateway_plugins.shared.fields import is_deep

_NUMBER: Final = (int, float)
_ECHOED: Final[Mapping[str, tuple[Any, tuple[type, ...]]]] = {
    # field of the request that the response repeats: (value without it, types that it may have)
    "frequency_penalty": (0.0, _NUMBER),
    "instructions": (None, (str, list)),
    "max_output_tokens": (None, (int,)),
    "max_tool_calls": (None, (int,)),
    "metadata": ({}, (dict,)),
    "parallel_tool_calls": (True, (bool,)),
    "presence_penalty": (0.0, _NUMBER),
    "prompt_cache_key": (None, (str,)),
    "safety_identifier": (None, (str,)),
    "service_tier": ("default", (str,)),
    "temperature": (1.0, _NUMBER),
    "tool_choice": ("auto", (str, dict)),
    "top_p": (1.0, _NUMBER),
    "truncation": ("disabled", (str,)),
    "user": (None, (str,)),
}
_NOT_IN_FORCE: Final = ("auto",)
"""Values of `service_tier` that the response does not repeat, because they leave the choice to the provider. The
response has "default" instead."""


def blank(request: ClientRequest, dropped: Collection[str] = ()) -> Json:
    """Return the response object without output. `dropped` has the JSON pointers that were reported as dropped."""
    echoed = {name: _given(request, name, dropped, usual, types) for name, (usual, types) in _ECHOED.items()}
    if echoed["service_tier"] in _NOT_IN_FORCE:
        echoed["service_tier"] = "default"
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": IN_PROGRESS,
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": request.model,
        "output": [],
        "previous_response_id": None,
        "reasoning": _reasoning(request, dropped),
        "store": False,
        "text": _text(request, dropped),
        "tools": _tools(request, dropped),
        "top_logprobs": 0,
        "usage": None,
        **echoed,
    }


def _given(request: ClientRequest, name: str, dropped: Collection[str], usual: Any, types: tuple[type, ...]) -> Any:
    """Return the request's field `name`, or the default `usual` if the field is missing, dropped or malformed.

    `types` are the Python types that the value may have. `dropped` has the JSON pointers that were reported as dropped.
    A malformed field raises no error, because error replies have the response object too.
    """
    if f"/{name}" in dropped:
        return usual
    with suppress(Refused):
        value = request.top.decode(name)
        wrong = isinstance(value, bool) and bool not in types
        return value if isinstance(value, types) and not wrong and not is_deep(value) else usual
    return usual


def _reasoning(request: ClientRequest, dropped: Collection[str]) -> Json:
    given = _given(request, "reasoning", dropped, {}, (dict,))
    return {
        name: value if isinstance(value := given.get(name), str) and f"/reasoning/{name}" not in dropped else None
        for name in ("effort", "summary")
    }


def _text(request: ClientRequest, dropped: Collection[str]) -> Json:
    given = _given(request, "text", dropped, {}, (dict,))
    text = {name: value for name, value in given.items() if value is not None and f"/text/{name}" not in dropped}
    form = text.get("format")
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_schema":
        form = {"name": "response", "description": None, "strict": False, **_set(form)}
    return {**text, "format": form if kind else {"type": "text"}}


def _tools(request: ClientRequest, dropped: Collection[str]) -> list[Any]:
    tools = enumerate(_given(request, "tools", dropped, [], (list,)))
    return [_tool(tool, f"/tools/{index}", dropped) for index, tool in tools if f"/tools/{index}" not in dropped]


def _tool(tool: Any, at: str, dropped: Collection[str]) -> Any:
    """Return a tool as OpenAI's responses repeat it. A function has every field, even if the client left it out.

    `at` is the JSON pointer of the tool. `dropped` has the JSON pointers that were reported as dropped.
    """
    if not isinstance(tool, dict):
        return tool
    tool = {name: value for name, value in tool.items() if f"{at}/{name}" not in dropped}
    if tool.get("type") != FUNCTION:
        return tool
    return {"description": None, "parameters": None, "strict": False, **_set(tool)}


def _set(value: Any) -> Json:
    """Return the fields of an object that are not null."""
    return {name: inner for name, inner in value.items() if inner is not None}
