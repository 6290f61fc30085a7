"""Mapping of the messages of a plain request (`shared/plain_request.py`) to turns of Anthropic's Messages API.

Each message is mapped independently of the others. Rules for the sequence of turns are in
`dialects/anthropic_messages/demand.py`. The other fields of a request are mapped in `plain_to_messages.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.contract.flag import Caps, Drop
from gateway_plugins.dialects.anthropic_messages import demand as messages_demand
from gateway_plugins.dialects.anthropic_messages.demand import CacheBreakpoints
from gateway_plugins.dialects.anthropic_messages.files import media_block
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.plain_request import Call, Message, Part
from gateway_plugins.shared.reasoning import Maker, Reasoning
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import NO_OUTPUT, Block, Located, Turn


class Mapper(msgspec.Struct, frozen=True):
    """Maps the messages of one request to turns of the Messages API."""

    caps: Caps
    maker: Maker
    names: Names
    breakpoints: CacheBreakpoints
    drop: Drop

    def read(self, messages: Sequence[Message]) -> tuple[list[Block], list[Turn]]:
        """Return the system prompt and the turns.

        System messages before the first turn become the system prompt. Later system messages become turns of their own.
        """
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
        inner = {"type": "tool_result", "tool_use_id": message.call_id, "content": content}
        result = Located(message.call_at, inner)
        for part in message.content:
            if isinstance(part, Part):
                content.append(self._plain(part))
                self.breakpoints.put(part.ttl, [result], "messages", part.ttl_at)
        result["content"] = [block for block in content if not messages_demand.is_blank(block)] or [
            messages_demand.text(NO_OUTPUT)
        ]
        if message.is_error:
            result["is_error"] = True
        self.breakpoints.put(message.ttl, [result], "messages", message.ttl_at)
        return Turn("user", [result], message.at)

    def _blocks(self, message: Message, section: str) -> list[Block]:
        """Return the blocks of a message in the client's order, which must not change (RooCode#11238).

        `section` is `system` or `messages`, the part of the prompt to which the message belongs.
        """
        blocks: list[Block] = []
        for part in message.content:
            if isinstance(part, Reasoning):
                blocks += messages_demand.thinking_blocks(part, self.caps, self.maker, self.drop)
                continue
            block = self._call(part) if isinstance(part, Call) else self._plain(part)
            self.breakpoints.put(part.ttl, [block], section, part.ttl_at)
            blocks.append(block)
        self.breakpoints.put(message.ttl, blocks, section, message.ttl_at)
        return blocks

    def _call(self, call: Call) -> Block:
        # a name that the model invented is kept if its characters are allowed (vercel/ai#17763)
        name = self.names.alias(call.name or "unnamed")
        input_ = self.names.plain_input(call.input) if self.caps.plain_properties else call.input
        return {"type": "tool_use", "id": call.id, "name": name, "input": input_}

    def _plain(self, part: Part) -> Block:
        if part.media is None:
            return messages_demand.text(part.text)
        return media_block(part.media, self.caps, param(part.at))
