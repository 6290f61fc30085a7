"""Counts the output bytes in each event of Anthropic's dialect, and checks that an unstreamed body is a reply."""

from __future__ import annotations

from typing import Final

from gateway.contract import json_api
from gateway.contract.errors import BadFrame
from gateway.contract.flag import Event
from gateway_plugins.shared import lenient
from gateway_plugins.shared.pieces import piece_bytes, piece_pattern

_PIECE: Final = piece_pattern("text", "thinking", "partial_json")


def checked(body: bytes) -> bytes:
    """Return `body` if it is a message or the reply of count_tokens. Raises `BadFrame` for any other body."""
    data = json_api.json_object(body)
    if not isinstance(data.get("content"), list) and lenient.count(data.get("input_tokens")) is None:
        raise BadFrame("the provider's reply is neither a message nor a count of tokens")
    return body


def output_bytes(event: Event) -> int:
    """Return the number of bytes of text, thinking and tool arguments in an event. Redacted thinking is not counted."""
    if event.kind != "content_block_delta":
        return 0
    if (size := piece_bytes(_PIECE, event.payload)) is not None:
        return size
    delta = lenient.mapping(lenient.mapping(event.data).get("delta"))
    return json_api.text_bytes(delta.get("text"), delta.get("thinking"), delta.get("partial_json"))
