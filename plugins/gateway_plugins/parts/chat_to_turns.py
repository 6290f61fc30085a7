"""Messages of a Chat Completions request as turns of the Messages dialect, with their cache marks.

Each message is mapped by itself; what the turns must look like together is `to_anthropic_messages.arrange`. Source:
bedrock.md 3.2; the extensions `thinking_blocks` and `cache_control` as LiteLLM and opencode send them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.errors import invalid
from gateway.flag import Caps, Drop, Members
from gateway_plugins.parts import read_openai_chat as chat
from gateway_plugins.parts import reasoning
from gateway_plugins.parts import to_anthropic_messages as to
from gateway_plugins.parts.fields import escaped, param
from gateway_plugins.parts.media import Media
from gateway_plugins.parts.read_openai_chat import Message, Part
from gateway_plugins.parts.to_anthropic_messages import Marks
from gateway_plugins.parts.tools import Names
from gateway_plugins.parts.turns import NO_OUTPUT, Block, Turn

_COMMON: Final = frozenset({"role", "content", "cache_control"})
_CARRIED: Final[Mapping[str, frozenset[str]]] = {
    "system": _COMMON,
    "user": _COMMON,
    "assistant": _COMMON | {"tool_calls", "refusal", "thinking_blocks", "reasoning_content", "reasoning"},
    "tool": _COMMON | {"tool_call_id"},
}
_TEXTS: Final = frozenset({"txt", "md", "csv", "html"})
_MAX_TITLE: Final = 500
"""Characters of a document's title that the API takes."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What mapping a message needs to know."""

    caps: Caps
    names: Names
    marks: Marks
    drop: Drop

    def read(self, top: Members) -> tuple[list[Block], list[Turn]]:
        """The system prompt, and the turns that follow it. System messages in their midst stay where they are."""
        system: list[Block] = []
        turns: list[Turn] = []
        for message in chat.messages(top):
            self._report(message)
            if message.role == "system" and not turns:
                system += self._blocks(message, "system")
            else:
                turns.append(_ROLES[message.role](self, message))
        return [block for block in system if not to.is_blank(block)], turns

    def system(self, message: Message) -> Turn:
        return Turn("system", self._blocks(message, "messages"), message.at)

    def user(self, message: Message) -> Turn:
        return Turn("user", self._blocks(message, "messages"), message.at)

    def assistant(self, message: Message) -> Turn:
        """Thinking first and exactly as it came, then text, then the calls (RooCode#11238)."""
        blocks = self._thinking(message)
        content = [self._block(part, "messages") for part in chat.parts(message, self.drop)]
        refusal = chat.text_of(message.raw.get("refusal"), f"{message.at}/refusal")
        if refusal and to.text(refusal) not in content:
            content.append(to.text(refusal))
        for call in chat.calls(message):
            # a name that the model made up is as good as any once it is one that the API takes (vercel/ai#17763)
            name = self.names.alias(call.name or "unnamed")
            block = {"type": "tool_use", "id": call.id, "name": name, "input": call.input}
            self.marks.put(call.ttl, [block], "messages", f"{call.at}/cache_control")
            content.append(block)
        self.marks.put(message.ttl, content, "messages", f"{message.at}/cache_control")
        return Turn("assistant", blocks + content, message.at)

    def tool(self, message: Message) -> Turn:
        content: list[Block] = []
        result: Block = {"type": "tool_result", "tool_use_id": chat.tool_call_id(message), "content": content}
        for part in chat.parts(message, self.drop):
            content.append(self._plain(part))
            self.marks.put(part.ttl, [result], "messages", f"{part.at}/cache_control")
        result["content"] = [block for block in content if not to.is_blank(block)] or [to.text(NO_OUTPUT)]
        self.marks.put(message.ttl, [result], "messages", f"{message.at}/cache_control")
        return Turn("user", [result], message.at)

    def _blocks(self, message: Message, section: str) -> list[Block]:
        blocks = [self._block(part, section) for part in chat.parts(message, self.drop)]
        self.marks.put(message.ttl, blocks, section, f"{message.at}/cache_control")
        if message.role == "system" and any(block["type"] != "text" for block in blocks):
            field = f"{param(message.at)}.content"
            raise invalid(f"{field}: a system message can hold text only", field)
        return blocks

    def _block(self, part: Part, section: str) -> Block:
        block = self._plain(part)
        self.marks.put(part.ttl, [block], section, f"{part.at}/cache_control")
        return block

    def _plain(self, part: Part) -> Block:
        if part.media is None:
            return to.text(part.text)
        return _media(part.media, param(part.at), self.caps)

    def _thinking(self, message: Message) -> list[Block]:
        blocks: list[Block] = []
        for entry in chat.thinking(message):
            carried = entry.data or entry.signature
            able = self.caps.redacted_reasoning if entry.data else self.caps.signed_reasoning
            mine = reasoning.untagged(self.caps.family, carried) if carried and able else None
            if not mine:
                self.drop(entry.at)
            elif entry.data:
                blocks.append({"type": "redacted_thinking", "data": mine})
            else:
                blocks.append({"type": "thinking", "thinking": entry.text, "signature": mine})
        for name in ("reasoning_content", "reasoning"):  # only text: without a signature it is not taken back
            if message.raw.get(name) and not blocks:
                self.drop(f"{message.at}/{name}")
        return blocks

    def _report(self, message: Message) -> None:
        for name, value in message.raw.items():
            if name not in _CARRIED[message.role] and value not in (None, [], ""):
                self.drop(f"{message.at}/{escaped(name)}")


_ROLES: Final = {"system": Reader.system, "user": Reader.user, "assistant": Reader.assistant, "tool": Reader.tool}


def _media(media: Media, field: str, caps: Caps) -> Block:
    if media.kind == "image" and caps.images:
        return {"type": "image", "source": _base64(media.mime, media.base64)}
    if media.kind != "document" or not caps.documents:
        raise invalid(f"{field}: this model takes no {media.kind}", field)
    return {"type": "document", "source": _document(media, field)} | (
        {"title": media.name[:_MAX_TITLE]} if media.name.strip() else {}
    )


def _document(media: Media, field: str) -> Block:
    if media.format == "pdf":
        return _base64(media.mime, media.base64)
    if media.format not in _TEXTS:
        raise invalid(f"{field}: a document must be a PDF or text, not {media.format}", field)
    try:
        text = media.data.decode()
    except UnicodeDecodeError:
        raise invalid(f"{field}: the text is not UTF-8", field) from None
    if not text.strip():
        raise invalid(f"{field}: the document is blank", field)
    return {"type": "text", "media_type": "text/plain", "data": text}


def _base64(mime: str, data: str) -> Block:
    return {"type": "base64", "media_type": mime, "data": data}
