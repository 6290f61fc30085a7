"""Builds the parts of one model turn in a Gemini request from text, thinking and function calls, in their order.

Gemini signs parts of its replies. The client sends a signature back in a thinking block (`carried.py`), and this module
puts it on the part that Gemini signed. The rules are the same for all clients' dialects.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.contract.flag import Drop
from gateway_plugins.dialects.gemini_generate_content import carried
from gateway_plugins.dialects.gemini_generate_content.carried import Signature
from gateway_plugins.shared.conversation import Call, Piece
from gateway_plugins.shared.inline_reasoning import original_text
from gateway_plugins.shared.reasoning import PREFIX, Maker, Reasoning
from gateway_plugins.shared.turns import Block


class ModelTurn(msgspec.Struct):
    """Builds the parts of one turn."""

    maker: Maker
    drop: Drop
    parts: list[Block] = msgspec.field(default_factory=list)
    _waiting: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """Signatures whose function calls have not come yet, each with the JSON pointer of its thinking block."""
    _thinking_at: list[str] = msgspec.field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """True if there is neither a function call nor a visible text. A turn with only thinking is not sent."""
        return not any("functionCall" in part or self._is_text(part) for part in self.parts)

    def add(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, str):
                self._text(piece)
            elif isinstance(piece, Reasoning):
                self._think(piece)
            else:
                self._call(piece)

    def report(self) -> None:
        """Report as dropped what is not sent: all thinking of an empty turn, or signatures without a function call."""
        for at in self._thinking_at if self.is_empty else [at for _, at in self._waiting]:
            self.drop(at)

    @staticmethod
    def _is_text(part: Block) -> bool:
        return "thought" not in part and bool(part.get("text", "").strip())

    def _text(self, value: str) -> None:
        if value.strip():
            self.parts.append({"text": value})

    def _call(self, call: Call) -> None:
        part: Block = {"functionCall": {"id": call.id, "name": call.name, "args": call.input}}
        if self._waiting:
            part["thoughtSignature"], _ = self._waiting.pop(0)
        self.parts.append(part)

    def _think(self, piece: Reasoning) -> None:
        value = piece.data or piece.signature
        signature = carried.decode(value, self.maker)
        if (written := original_text(piece, self.maker)) is not None:
            self._text(written)
        elif signature is None and not (value.startswith(PREFIX) and self.maker.untagged(value) == ""):
            self.drop(piece.at)
            return
        elif piece.text:
            self.parts.append({"text": piece.text, "thought": True})
        if signature is not None:
            self._sign(signature, piece)
        self._thinking_at.append(piece.at)

    def _sign(self, signature: Signature, piece: Reasoning) -> None:
        last = self.parts[-1] if self.parts else {}
        is_own = ("thought" in last) == (signature.kind == carried.THOUGHT)
        if signature.kind == carried.CALL:
            self._waiting.append((signature.value, piece.at))
        elif "text" in last and is_own and "thoughtSignature" not in last:
            last["thoughtSignature"] = signature.value
        else:  # in a stream, Gemini sends a signature of its own text in a part without text
            self.parts.append({"text": "", "thoughtSignature": signature.value})
