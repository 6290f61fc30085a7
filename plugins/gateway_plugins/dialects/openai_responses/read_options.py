"""Readers of the parameters of a Responses request, and the function that reads a complete request.

Malformed values are refused as in `read.py`. The gateway stores no responses, conversations or prompts. A field that
refers to one of these is refused with a 400. The error tells the client to send the items themselves.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.openai import read as openai_read
from gateway_plugins.dialects.openai_responses.names import Origins
from gateway_plugins.dialects.openai_responses.read import messages
from gateway_plugins.dialects.openai_responses.read_tools import tools
from gateway_plugins.shared import checks, numbers
from gateway_plugins.shared.fields import member
from gateway_plugins.shared.output_format import JsonFormat
from gateway_plugins.shared.plain_request import Format, PlainRequest
from gateway_plugins.shared.settings import Parameters
from gateway_plugins.shared.thinking_members import MEMBERS as THINKING_MEMBERS
from gateway_plugins.shared.thinking_members import read_thinking

_CARRIED: Final = frozenset({
    "model", "input", "instructions", "stream", "tools", "tool_choice", "parallel_tool_calls", "text",
    "max_output_tokens", "temperature", "top_p", "service_tier", "include", *THINKING_MEMBERS, *numbers.CHAT,
})  # fmt: skip
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    # field: values without effect. A field with such a value is left out without a report
    "background": (False,),
    "store": (False,),
    "metadata": ({},),
    "client_metadata": ({},),
    "truncation": ("disabled",),
    "top_logprobs": (0,),
    "stream_options": ({}, {"include_obfuscation": False}),
}
_REFUSED_MEMBERS: Final = {
    # field that cannot be ignored, because the client would get something else: the advice in the error
    "previous_response_id": "no responses are stored here: send the whole conversation as input",
    "conversation": "no conversations are stored here: send the whole conversation as input",
    "background": "no responses are stored here to be asked for later: leave it out",
    "prompt": "no prompts are stored here: send instructions and input",
    "top_logprobs": "log probabilities are not available from this model: leave it out",
}
_SAMPLING: Final = {name: numbers.SAMPLING[name] for name in ("temperature", "top_p")}
"""The check of each sampling parameter of the Responses API."""
_ENCRYPTED: Final = "reasoning.encrypted_content"
_LOGPROBS: Final = "message.output_text.logprobs"
_FORMAT_AT: Final = "/text/format"


def read_request(top: Members, drop: Drop) -> tuple[PlainRequest, Origins]:
    """Return the values of the request, and the client's tools by the names that the provider gets (`names.flat`).

    Raises `Refused` for a request that is malformed or cannot be served.
    """
    checks.refuse(top, _REFUSED_MEMBERS, _NEUTRAL)
    openai_read.refuse_promises(top)
    checks.leftovers(top, _CARRIED, _NEUTRAL, drop)
    _include(top, drop)
    offered, origins = tools(top, drop)
    request = PlainRequest(
        messages=messages(top, drop),
        tools=offered,
        parameters=Parameters(
            thinking=read_thinking({name: member(top, name) for name in THINKING_MEMBERS}, "", drop, efforts={}),
            limit=numbers.limit(top, "max_output_tokens"),
            limit_at="/max_output_tokens",
            sampling=numbers.members(top, _SAMPLING),
            stops=(),
            stops_at="/stop",
            max_temperature=openai_read.MAX_TEMPERATURE,
        ),
        format=_format(top, drop),
        tier=openai_read.service_tier(top),
        chat_members=numbers.members(top, numbers.CHAT),
    )
    return request, origins


def _include(top: Members, drop: Drop) -> None:
    """Report as dropped each kind of additional data that the client requests in `include`.

    Encrypted reasoning is not reported, because every reply has it. Raises `Refused` for log probabilities.
    """
    for index, name in enumerate(checks.list_of(member(top, "include"), "/include")):
        if name == _LOGPROBS:
            raise invalid(f"include: {_LOGPROBS} is not available from this model: leave it out", "include")
        if name != _ENCRYPTED:
            drop(f"/include/{index}")


def _format(top: Members, drop: Drop) -> Format:
    text = checks.object_of(member(top, "text"), "/text")
    for name, value in text.items():
        if name != "format" and value not in (None, "medium"):
            drop(f"/text/{name}")
    form = checks.object_of(text.get("format"), _FORMAT_AT) or {"type": "text"}
    kind = form.get("type")
    if kind in ("text", "json_object"):
        return Format(kind, at=_FORMAT_AT)
    if kind != "json_schema" or not isinstance(form.get("schema"), dict):
        field = "text.format"
        raise invalid(f"{field} must be of type text, json_object, or json_schema with a schema", field)
    json = JsonFormat(
        form["schema"],
        _FORMAT_AT,
        f"{_FORMAT_AT}/schema",
        checks.text_of(form.get("name"), f"{_FORMAT_AT}/name"),
        checks.text_of(form.get("description"), f"{_FORMAT_AT}/description"),
        form.get("strict") if isinstance(form.get("strict"), bool) else None,
    )
    return Format(kind, _FORMAT_AT, json)
