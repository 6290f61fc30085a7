"""OpenAI's messages (`dialects/openai/values.py`) as turns of the Messages dialect, with their cache marks.

Each message is mapped by itself; what the turns must look like together is `to_anthropic_messages.arrange`, and all
other members are in `openai_to_messages.py`. Source: bedrock.md 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.contract.flag import Caps, Drop
from gateway_plugins.dialects.anthropic_messages import demand as messages_demand
from gateway_plugins.dialects.anthropic_messages.demand import CacheBreakpoints
from gateway_plugins.dialects.anthropic_messages.files import media_block
from gateway_plugins.dialects.openai.values import Call, Message, Part
from gateway_plugins.shared import reasoning
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.reasoning import Reasoning
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import NO_OUTPUT, Block, Turn


@dataclass(frozen=True, slots=True)
class Mapper:
    """What mapping a message needs to know."""

    caps: Caps
    names: Names
    marks: CacheBreakpoints
    drop: Drop

    def read(self, messages: Sequence[Message]) -> tuple[list[Block], list[Turn]]:
        """The system prompt, and the turns that follow it. System messages in their midst stay where they are."""
        system: list[Block] = []
        turns: list[Turn] = []
        for message in messages:
            if message.role == "system" and not turns:
                system += self._blocks(message, "system")
            elif message.role == "system":
                turns.append(Turn("system", self._blocks(message, "messages"), message.at))
            elif message.role == "tool":
                turns.append(self._tool(message))
            else:
                turns.append(Turn(message.role, self._blocks(message, "messages"), message.at))
        return [block for block in system if not messages_demand.is_blank(block)], turns

    def _tool(self, message: Message) -> Turn:
        content: list[Block] = []
        result: Block = {"type": "tool_result", "tool_use_id": message.call_id, "content": content}
        for part in message.content:
            if isinstance(part, Part):
                content.append(self._plain(part))
                self.marks.put(part.ttl, [result], "messages", f"{part.at}/cache_control")
        result["content"] = [block for block in content if not messages_demand.is_blank(block)] or [
            messages_demand.text(NO_OUTPUT)
        ]
        self.marks.put(message.ttl, [result], "messages", f"{message.at}/cache_control")
        return Turn("user", [result], message.at)

    def _blocks(self, message: Message, section: str) -> list[Block]:
        """In the client's order: thinking exactly as it came, then text, then the calls (RooCode#11238)."""
        blocks: list[Block] = []
        for part in message.content:
            if isinstance(part, Reasoning):
                blocks += self._thinking(part)
                continue
            block = self._call(part) if isinstance(part, Call) else self._plain(part)
            self.marks.put(part.ttl, [block], section, f"{part.at}/cache_control")
            blocks.append(block)
        self.marks.put(message.ttl, blocks, section, f"{message.at}/cache_control")
        return blocks

    def _call(self, call: Call) -> Block:
        # a name that the model made up is as good as any once it is one that the API takes (vercel/ai#17763)
        name = self.names.alias(call.name or "unnamed")
        given = self.names.plain_input(call.input) if self.caps.plain_properties else call.input
        return {"type": "tool_use", "id": call.id, "name": name, "input": given}

    def _plain(self, part: Part) -> Block:
        if part.media is None:
            return messages_demand.text(part.text)
        return media_block(part.media, self.caps, param(part.at))

    def _thinking(self, entry: Reasoning) -> list[Block]:
        carried = entry.data or entry.signature
        able = self.caps.redacted_reasoning if entry.data else self.caps.signed_reasoning
        mine = reasoning.untagged(self.caps.family, carried) if carried and able else None
        if not mine:
            self.drop(entry.at)
            return []
        if entry.data:
            return [{"type": "redacted_thinking", "data": mine}]
        return [{"type": "thinking", "thinking": entry.text, "signature": mine}]
