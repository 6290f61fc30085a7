"""Reads the billed parts, stop reason, models and called tools of a reply in Anthropic's dialect.

The token counts come from `usage.Reports`. The translation of replies (`walk.py`) uses this class too, so the client
gets the counts that the gateway records. A field of a wrong type is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.contract import json_api
from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest, Event, Facts
from gateway_plugins.dialects.anthropic_messages.usage import NO_BILL, Reports
from gateway_plugins.shared.cache_marks import Marks
from gateway_plugins.shared.lenient import mapping, sequence, text

INVOCATION_METRICS: Final = "amazon-bedrock-invocationMetrics"
"""Name of the field with the token counts in the last chunk of InvokeModel.

The decoder passes these counts on as an event. The event's kind has the same name.
"""
CODE_EXECUTION: Final = "code_execution"
"""Suffix of the names of tools that run in a container, such as `bash_code_execution`.

A container is billed by its running time. The reply does not report this time."""
_FREE_WITH: Final = ("web_search_2026", "web_fetch_2026")
"""Prefixes of types of web tools. In a request with such a tool, code execution is free (Anthropic's price page)."""


class Meter:
    """Reads usage, stop reason, models and called tools from a reply.

    `billed` has the token counts in the reply's headers. `tier` is the service tier in these headers.
    """

    def __init__(
        self, request: ClientRequest | None = None, billed: Mapping[str, int] = NO_BILL, tier: str = ""
    ) -> None:
        self._request = request
        self._facts = Facts()
        self._reports = Reports(billed, tier)
        self._marks = Marks(request)
        self._model = ""
        self._code_runs = 0

    def feed(self, event: Event) -> None:
        match event.kind:
            case "message_start":
                message = mapping(mapping(event.data).get("message"))
                self._reports.begin(message.get("usage"))
                self._model = text(message.get("model")) or self._model
            case "content_block_start":
                self._block(mapping(event.data).get("content_block"))
            case "message_delta":
                data = mapping(event.data)
                self._reports.add(data.get("usage"))
                self._facts.stop = self._facts.stop or text(mapping(data.get("delta")).get("stop_reason"))
            case "message_stop":
                self._reports.add(mapping(event.data).get("usage"))
            case _ if event.kind == INVOCATION_METRICS:
                self._reports.add_metrics(event.data)

    def whole(self, body: bytes) -> None:
        data = json_api.json_object(body)
        self._reports.add(data.get("usage"))
        self._model = text(data.get("model"))
        self._facts.stop = text(data.get("stop_reason"))
        for block in sequence(data.get("content")):
            self._block(block)

    def facts(self) -> Facts:
        parts, exact = self._reports.parts(self._marks, self._model)
        if self._code_runs:
            parts[0] = msgspec.structs.replace(parts[0], extra={**parts[0].extra, CODE_EXECUTION: self._code_runs})
        self._facts.parts = parts
        self._facts.reported = self._reports.reported
        self._facts.inexact = not exact or bool(self._code_runs and not _is_code_free(self._request))
        return self._facts

    def _block(self, value: Any) -> None:
        block = mapping(value)
        match block.get("type"):
            case "tool_use":
                self._facts.tools.append(text(block.get("name")))
            case "server_tool_use":
                self._code_runs += text(block.get("name")).endswith(CODE_EXECUTION)
            case "fallback":
                self._model = text(mapping(block.get("to")).get("model")) or self._model


def _is_code_free(request: ClientRequest | None) -> bool:
    """Return whether the request has a web tool that makes code execution free (`_FREE_WITH`)."""
    if request is None:
        return False
    try:
        tools = sequence(request.top.decode("tools"))
    except Refused:
        return False
    return any(text(mapping(tool).get("type")).startswith(_FREE_WITH) for tool in tools)
