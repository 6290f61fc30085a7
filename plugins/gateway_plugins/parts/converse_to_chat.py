"""Converse's replies in the Chat dialect: stream events to chunks, a whole reply to a completion.

Source: botocore's service model and recorded streams: text and thinking begin with a bare delta, only tools have a
start; `metadata` comes after `messageStop`, in some places before it. Requests and the flags' framing belong elsewhere.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway import plain
from gateway.errors import BadFrame
from gateway.flag import Ask, Drop, Event
from gateway_plugins.parts import lenient
from gateway_plugins.parts.converse_facts import usage_of
from gateway_plugins.parts.emit_openai_chat import ChatStream, Completion, completion
from gateway_plugins.parts.reasoning import tagged
from gateway_plugins.parts.tools import Names

_REASONS: Final = {
    "end_turn": "stop",
    "tool_use": "tool_calls",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
"""Any other reason, also one that is not known yet, is a plain stop; the native one stands beside it."""


def finish_reason(native: str, *, tools: bool) -> str:
    """Chat's reason. Some families say `end_turn` behind a tool call, on which agents would stop working."""
    if native in {"end_turn", "tool_use"}:
        return "tool_calls" if tools else "stop"
    return _REASONS.get(native, "stop")


@dataclass(slots=True)
class _Open:
    """A block of the stream that has begun."""

    tool: int | None = None
    """Chat's index of the call."""
    is_output: bool = False
    """The call stands in for structured output: its input is the answer's text."""
    is_hidden: bool = False
    text: str = ""
    signature: str = ""
    redacted: bytes = b""


class ConverseToChat:
    """The translation of one attempt (`flag.Translation`)."""

    def __init__(
        self, *, ask: Ask, family: str, names: Names, output_tool: str, include_usage: bool, drop: Drop
    ) -> None:
        self.ask = ask
        self._family = family
        self._names = names
        self._output_tool = output_tool
        self._drop = drop
        self._stream = ChatStream(ask.model, include_usage=include_usage)
        self._blocks: dict[int, _Open] = {}
        self._said = 0

    def feed(self, event: Event) -> Sequence[Event]:
        if (read := _STREAM.get(event.kind)) is not None:
            read(self, lenient.mapping(event.data))
        return self._stream.take()

    def close(self) -> Sequence[Event]:
        return self._stream.take()

    def _on_start(self, data: Any) -> None:
        _ = data
        self._stream.start()

    def _on_block_start(self, data: Any) -> None:
        block = self._blocks[lenient.whole_number(data.get("contentBlockIndex"))] = _Open()
        start = lenient.mapping(data.get("start"))
        tool = lenient.mapping(start.get("toolUse"))
        name = lenient.text(tool.get("name"))
        if not tool or tool.get("type") == "server_tool_use":
            block.is_hidden = True
            self._drop(f"/reply/{next(iter(start), 'block')}")
        elif name and name == self._output_tool:
            block.is_output = True
        else:
            block.tool = self._stream.tool(lenient.text(tool.get("toolUseId")), self._names.restore(name))

    def _on_delta(self, data: Any) -> None:
        block = self._blocks.setdefault(lenient.whole_number(data.get("contentBlockIndex")), _Open())
        if block.is_hidden:
            return
        for kind, value in lenient.mapping(data.get("delta")).items():
            if (read := _DELTAS.get(kind)) is not None:
                read(self, block, value)
            else:
                self._drop(f"/reply/{kind}")

    def _text(self, block: _Open, value: Any) -> None:
        _ = block
        said = lenient.text(value)
        self._said += len(said)
        self._stream.text(said)

    def _input(self, block: _Open, value: Any) -> None:
        fragment = lenient.text(lenient.mapping(value).get("input"))
        if block.is_output:
            self._stream.text(fragment)
        elif block.tool is not None:
            self._stream.arguments(block.tool, fragment)

    def _thinking(self, block: _Open, value: Any) -> None:
        thought = lenient.mapping(value)
        text = lenient.text(thought.get("text"))
        block.text += text
        self._stream.reasoning(text)
        block.signature += lenient.text(thought.get("signature"))
        block.redacted += self._redacted(thought)

    def _citation(self, block: _Open, value: Any) -> None:
        _ = block
        if (annotation := _annotation(value, self._said, self._said)) is not None:
            self._stream.annotation(annotation)
        else:
            self._drop("/reply/citation")

    def _on_block_stop(self, data: Any) -> None:
        block = self._blocks.pop(lenient.whole_number(data.get("contentBlockIndex")), None)
        if block is None:
            return
        if block.tool is not None:
            self._stream.tool_end(block.tool)
        if (kept := self._kept(block.text, block.signature, block.redacted)) is not None:
            self._stream.reasoning_block(kept)

    def _redacted(self, thought: dict[str, Any]) -> bytes:
        """Hidden thinking, which is base64; what is none could not be sent back, and is reported."""
        try:
            return b64decode(lenient.text(thought.get("redactedContent")))
        except ValueError:
            self._drop("/reply/reasoningContent/redactedContent")
            return b""

    def _kept(self, text: str, signature: str, redacted: bytes) -> dict[str, str] | None:
        """Thinking that has to come back, tagged; None for text without a signature, which nobody takes back."""
        if redacted:
            return {"type": "redacted_thinking", "data": tagged(self._family, redacted.decode("latin-1"))}
        if signature:
            return {"type": "thinking", "thinking": text, "signature": tagged(self._family, signature)}
        return None

    def _on_stop(self, data: Any) -> None:
        native = lenient.text(data.get("stopReason"))
        self._stream.finish(finish_reason(native, tools=self._stream.tools > 0), native)

    def _on_metadata(self, data: Any) -> None:
        if isinstance(data.get("usage"), dict):
            self._stream.usage(usage_of(data["usage"]))

    def whole(self, body: bytes) -> bytes:
        data = plain.decoded(body)
        reply = Completion(self.ask.model, native=lenient.text(data.get("stopReason")))
        message = lenient.mapping(data.get("output")).get("message")
        if not isinstance(message, dict):
            raise BadFrame("the provider's reply has no output.message")
        for block in lenient.sequence(message.get("content")):
            for kind, value in lenient.mapping(block).items():
                if (read := _WHOLE.get(kind)) is not None:
                    read(self, reply, value)
                else:
                    self._drop(f"/reply/{kind}")
        reply.finish_reason = finish_reason(reply.native, tools=bool(reply.tool_calls))
        if isinstance(data.get("usage"), dict):
            reply.usage = usage_of(data["usage"])
        return completion(reply)

    def _whole_text(self, reply: Completion, value: Any) -> None:
        _ = self
        reply.text.append(lenient.text(value))

    def _whole_tool(self, reply: Completion, value: Any) -> None:
        tool = lenient.mapping(value)
        name = lenient.text(tool.get("name"))
        if not tool or tool.get("type") == "server_tool_use":
            self._drop("/reply/toolUse")
        elif name and name == self._output_tool:
            reply.text.append(lenient.encoded(tool.get("input") or {}))
        else:
            reply.tool(lenient.text(tool.get("toolUseId")), self._names.restore(name), tool.get("input"))

    def _whole_thinking(self, reply: Completion, value: Any) -> None:
        thought = lenient.mapping(value)
        inner = lenient.mapping(thought.get("reasoningText"))
        text = lenient.text(inner.get("text"))
        reply.reasoning.append(text)
        signature = lenient.text(inner.get("signature"))
        if (kept := self._kept(text, signature, self._redacted(thought))) is not None:
            reply.thinking_blocks.append(kept)

    def _whole_cited(self, reply: Completion, value: Any) -> None:
        cited = lenient.mapping(value)
        start = sum(map(len, reply.text))
        reply.text += [
            lenient.text(lenient.mapping(part).get("text")) for part in lenient.sequence(cited.get("content"))
        ]
        end = sum(map(len, reply.text))
        for citation in lenient.sequence(cited.get("citations")):
            if (annotation := _annotation(citation, start, end)) is not None:
                reply.annotations.append(annotation)
            else:
                self._drop("/reply/citation")


_STREAM: Final = {
    "messageStart": ConverseToChat._on_start,  # noqa: SLF001 (its own tables)
    "contentBlockStart": ConverseToChat._on_block_start,  # noqa: SLF001
    "contentBlockDelta": ConverseToChat._on_delta,  # noqa: SLF001
    "contentBlockStop": ConverseToChat._on_block_stop,  # noqa: SLF001
    "messageStop": ConverseToChat._on_stop,  # noqa: SLF001
    "metadata": ConverseToChat._on_metadata,  # noqa: SLF001
}

_DELTAS: Final = {
    "text": ConverseToChat._text,  # noqa: SLF001
    "toolUse": ConverseToChat._input,  # noqa: SLF001
    "reasoningContent": ConverseToChat._thinking,  # noqa: SLF001
    "citation": ConverseToChat._citation,  # noqa: SLF001
}

_WHOLE: Final = {
    "text": ConverseToChat._whole_text,  # noqa: SLF001
    "toolUse": ConverseToChat._whole_tool,  # noqa: SLF001
    "reasoningContent": ConverseToChat._whole_thinking,  # noqa: SLF001
    "citationsContent": ConverseToChat._whole_cited,  # noqa: SLF001
}


def _annotation(citation: Any, start: int, end: int) -> dict[str, Any] | None:
    """Chat knows citations of web pages only; those of documents have no place in it."""
    given = lenient.mapping(citation)
    url = lenient.text(lenient.mapping(lenient.mapping(given.get("location")).get("web")).get("url"))
    if not url:
        return None
    title = lenient.text(given.get("title")) or url
    return {
        "type": "url_citation",
        "url_citation": {"url": url, "title": title, "start_index": start, "end_index": end},
    }
